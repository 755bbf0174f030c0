"""The ML backend row of a project: connect, start training, disconnect; the protocol it speaks is `web/`'s."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usl_backend.errors import InputError, StudioAuthError, StudioError, StudioNotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usl_backend.studio.client import StudioClient

logger = logging.getLogger(__name__)

CONNECTED = "CO"
# What Label Studio (1.23.1 and later) says of an ML backend on a loopback or private address.
_RESERVED = "reserved network address"


@dataclass(frozen=True, slots=True)
class Backend:
    """An ML backend row of a project.

    Attributes
    ----------
    id, url, title
        As Label Studio has them.
    state
        `CO` connected, `DI` disconnected, `ER` error, `TR` training, `PR` predicting.
    error
        What Label Studio says when it is not connected.
    basic_auth_user
        User name that Label Studio sends; empty without basic auth.
    extra_params
        As stored: a JSON string when it was typed into the form.
    """

    id: int
    url: str
    title: str
    state: str
    error: str
    basic_auth_user: str
    extra_params: Any

    @property
    def connected(self) -> bool:
        """Whether Label Studio reached it when it was asked for."""
        return self.state == CONNECTED


@dataclass(frozen=True, slots=True)
class Connection:
    """What `connect` did.

    Attributes
    ----------
    backend
        The row, connected.
    created
        False when the project had a row with this address, which was updated.
    webhooks
        Automatic webhooks that were deactivated.
    """

    backend: Backend
    created: bool
    webhooks: int


class AddressRefusedError(StudioError):
    """Label Studio refuses to call a backend on a loopback or private address."""


def backends(client: StudioClient, project_id: int) -> list[Backend]:
    """List a project's ML backends. Label Studio calls each of them before it answers.

    Parameters
    ----------
    client, project_id
        Where.

    Returns
    -------
    list of Backend
        By id.
    """
    rows = client.http.json("GET", "/api/ml/", params={"project": project_id})
    return sorted((_backend(row) for row in rows), key=lambda backend: backend.id)


def find(client: StudioClient, project_id: int, url: str) -> Backend:
    """Find the row of a backend by its address.

    Raises
    ------
    StudioNotFoundError
        The project has no such backend.
    """
    for backend in backends(client, project_id):
        if _same(backend.url, url):
            return backend
    raise StudioNotFoundError(
        f"project {project_id} is not connected to {url}; run: usl-backend connect {project_id}"
    )


def connect(
    client: StudioClient,
    project_id: int,
    url: str,
    *,
    title: str = "USL",
    basic_auth: tuple[str, str] | None = None,
    extra_params: Mapping[str, Any] | None = None,
) -> Connection:
    """Connect a backend as Settings > Model > Connect Model does, and keep its webhook from slowing annotators.

    Parameters
    ----------
    client, project_id
        Where.
    url
        Address of the backend as Label Studio sees it.
    title
        Its name in the project; must not be a model version of a run.
    basic_auth
        User name and password that Label Studio shall send.
    extra_params
        The run's settings, such as `{"budget": 100}`; written as the JSON text that the form shows and keeps.

    Returns
    -------
    Connection
        The row that Label Studio has now.

    Raises
    ------
    AddressRefusedError
        Label Studio does not call private addresses.
    StudioError
        Label Studio cannot reach the backend, or the backend refuses it. No row is left behind.
    """
    if title.startswith("usl-"):
        raise InputError(f"title is {title!r}; names that start with usl- belong to runs, choose another")
    url = url.rstrip("/")
    body: dict[str, Any] = {"project": project_id, "url": url, "title": title, "is_interactive": False}
    if basic_auth is not None:
        body |= {
            "auth_method": "BASIC_AUTH",
            "basic_auth_user": basic_auth[0],
            "basic_auth_pass": basic_auth[1],
        }
    else:
        body |= {"auth_method": "NONE"}
    if extra_params:
        # Text, not an object: the form would show [object Object] and lose it at the next save.
        body["extra_params"] = json.dumps(dict(extra_params))
    before = backends(client, project_id)
    present = next((backend for backend in before if _same(backend.url, url)), None)
    refusal: StudioError | None = None
    try:
        if present is None:
            client.http.json("POST", "/api/ml/", body=body)
        else:
            client.http.json("PATCH", f"/api/ml/{present.id}", body=body)
    except StudioError as error:
        refusal = error
    # With ML_BLOCK_LOCAL_IP=false alone Label Studio 1.23 answers 403 and has made the row: only its webhook was
    # refused, which would be switched off below. Such a row works.
    backend = next((row for row in backends(client, project_id) if _same(row.url, url)), None)
    if backend is not None and backend.connected and (refusal is None or _RESERVED in str(refusal)):
        return Connection(backend, present is None, deactivate_webhook(client, project_id, url))
    if present is None and backend is not None:
        disconnect(client, project_id, url)
    if refusal is None:
        refusal = StudioError(
            backend.error or f"state {backend.state}" if backend else "the row has vanished"
        )
    raise _translated(refusal, url) from refusal


def disconnect(client: StudioClient, project_id: int, url: str) -> bool:
    """Remove the row of a backend and the webhook that Label Studio leaves behind.

    Parameters
    ----------
    client, project_id, url
        Which.

    Returns
    -------
    bool
        Whether there was such a row.
    """
    found = [backend for backend in backends(client, project_id) if _same(backend.url, url)]
    for backend in found:
        client.http.request("DELETE", f"/api/ml/{backend.id}").close()
    for webhook in webhooks(client, project_id, url):
        client.http.request("DELETE", f"/api/webhooks/{webhook['id']}/").close()
    return bool(found)


def start_training(client: StudioClient, project_id: int, url: str) -> None:
    """Press Start Training. Label Studio answers 200 whatever the backend says: ask the backend what became of it.

    Parameters
    ----------
    client, project_id, url
        Which backend of which project.

    Raises
    ------
    StudioNotFoundError
        The project has no such backend.
    """
    backend = find(client, project_id, url)
    client.http.request("POST", f"/api/ml/{backend.id}/train", body={}).close()


def deactivate_webhook(client: StudioClient, project_id: int, url: str) -> int:
    """Switch off the webhook that connecting a backend creates.

    It would call us at every annotation, and annotators wait for the answer. Start Training arrives without it.

    Parameters
    ----------
    client, project_id, url
        Which backend of which project.

    Returns
    -------
    int
        How many were active.
    """
    active = [webhook for webhook in webhooks(client, project_id, url) if webhook.get("is_active")]
    for webhook in active:
        client.http.json("PATCH", f"/api/webhooks/{webhook['id']}/", body={"is_active": False})
    return len(active)


def webhooks(client: StudioClient, project_id: int, url: str) -> list[dict[str, Any]]:
    """List a project's webhooks that call a backend, as Label Studio has them (`id`, `is_active`)."""
    rows = client.http.json("GET", "/api/webhooks/", params={"project": project_id})
    return [row for row in rows if _same(str(row.get("url")), url.rstrip("/") + "/webhook")]


def _translated(error: StudioError, url: str) -> StudioError:
    """What a user can do about a refused connection."""
    text = str(error)
    if _RESERVED in text:
        return AddressRefusedError(
            f"Label Studio refuses to call {url}, because it is a private address; start Label Studio with"
            " ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false (both) in its environment and connect again"
        )
    if isinstance(error, StudioAuthError):
        return error
    if "authentication parameters" in text:
        return StudioError(
            f"the backend at {url} wants a user name and password; set BASIC_AUTH_USER and BASIC_AUTH_PASS to"
            " what it was started with"
        )
    if "health check failed" in text:
        # Label Studio's own text is a paragraph with a link; what matters is at its end.
        reason = re.search(r"\[Errno [0-9]+\] ([A-Za-z ]+)|(timed out)", text)
        text = f"its health check failed ({(reason[1] or reason[2]).lower() if reason else 'no answer'})"
    return StudioError(
        f"Label Studio cannot use the backend at {url}: {text}. See whether `usl-backend serve` runs and whether"
        " that is its address as seen from Label Studio (USL_PUBLIC_URL; from a container for example"
        " http://host.docker.internal:9090)"
    )


def _backend(row: Mapping[str, Any]) -> Backend:
    """Label Studio's row in our type."""
    return Backend(
        id=int(row["id"]),
        url=str(row.get("url") or ""),
        title=str(row.get("title") or ""),
        state=str(row.get("state") or ""),
        error=str(row.get("error_message") or ""),
        basic_auth_user=str(row.get("basic_auth_user") or ""),
        extra_params=row.get("extra_params"),
    )


def _same(one: str, other: str) -> bool:
    """Whether two addresses differ by a trailing slash at most."""
    return one.rstrip("/") == other.rstrip("/")
