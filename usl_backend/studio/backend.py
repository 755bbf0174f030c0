"""Connect this service to a project as an ML backend, press Start Training, disconnect.

The protocol that Label Studio speaks to a connected backend is implemented in `web/`.
"""

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
# Part of Label Studio's error (1.23.1 and later) for an ML backend on a loopback or private address.
_PRIVATE_ADDRESS = "reserved network address"


@dataclass(frozen=True, slots=True)
class Backend:
    """An ML backend of a project, as Label Studio stores it.

    Attributes
    ----------
    state
        `CO` connected, `DI` disconnected, `ER` error, `TR` training, `PR` predicting.
    error
        Label Studio's message if the backend is not connected.
    basic_auth_user
        User name that Label Studio sends; empty without basic auth.
    extra_params
        As stored: a JSON string if it was typed into the form.
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
        """True if Label Studio reached the backend while listing it."""
        return self.state == CONNECTED


@dataclass(frozen=True, slots=True)
class BackendConnection:
    """Result of `connect`.

    Attributes
    ----------
    backend
        The connected backend.
    created
        False if the project already had a backend with this URL, which was updated.
    webhooks
        Number of automatic webhooks that were deactivated.
    """

    backend: Backend
    created: bool
    webhooks: int


class AddressRefusedError(StudioError):
    """Label Studio refuses to call a backend on a loopback or private address."""


def backends(client: StudioClient, project_id: int) -> list[Backend]:
    """List a project's ML backends by id. Label Studio calls each of them before it answers."""
    rows = client.http.json("GET", "/api/ml/", params={"project": project_id})
    return sorted((_from_row(row) for row in rows), key=lambda backend: backend.id)


def find(client: StudioClient, project_id: int, url: str) -> Backend:
    """Return the ML backend with a URL.

    Raises
    ------
    StudioNotFoundError
        The project has no such backend.
    """
    for backend in backends(client, project_id):
        if _same_url(backend.url, url):
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
) -> BackendConnection:
    """Connect a backend like Settings > Model > Connect Model, and switch off its webhook.

    Parameters
    ----------
    url
        URL of the backend as Label Studio reaches it.
    title
        Title in the project; names starting with `usl-` are reserved for the model versions of runs.
    basic_auth
        User name and password for Label Studio to send.
    extra_params
        Run settings, such as `{"budget": 100}`; stored as the JSON text that the form shows and keeps.

    Raises
    ------
    AddressRefusedError
        Label Studio does not call private addresses.
    StudioError
        Label Studio cannot reach the backend, or the backend refuses it. The project is left without it.
    """
    if title.startswith("usl-"):
        raise InputError(
            f"title is {title!r}; names starting with usl- are reserved for runs, choose another"
        )
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
        # As text: the form would show an object as [object Object] and lose it at the next save.
        body["extra_params"] = json.dumps(dict(extra_params))
    before = backends(client, project_id)
    present = next((backend for backend in before if _same_url(backend.url, url)), None)
    refusal: StudioError | None = None
    try:
        if present is None:
            client.http.json("POST", "/api/ml/", body=body)
        else:
            client.http.json("PATCH", f"/api/ml/{present.id}", body=body)
    except StudioError as error:
        refusal = error
    # With ML_BLOCK_LOCAL_IP=false alone, Label Studio 1.23 answers 403 although it has created the backend: only
    # the webhook was refused, which would be switched off below anyway. Such a backend works.
    backend = next((row for row in backends(client, project_id) if _same_url(row.url, url)), None)
    if backend is not None and backend.connected and (refusal is None or _PRIVATE_ADDRESS in str(refusal)):
        return BackendConnection(backend, present is None, deactivate_webhook(client, project_id, url))
    if present is None and backend is not None:
        disconnect(client, project_id, url)
    if refusal is None:
        refusal = StudioError(
            backend.error or f"state {backend.state}" if backend else "Label Studio did not keep it"
        )
    raise _connect_error(refusal, url) from refusal


def disconnect(client: StudioClient, project_id: int, url: str) -> bool:
    """Remove a backend and the webhook that Label Studio leaves behind; return False if there was no backend."""
    found = [backend for backend in backends(client, project_id) if _same_url(backend.url, url)]
    for backend in found:
        client.http.request("DELETE", f"/api/ml/{backend.id}").close()
    for webhook in webhooks(client, project_id, url):
        client.http.request("DELETE", f"/api/webhooks/{webhook['id']}/").close()
    return bool(found)


def start_training(client: StudioClient, project_id: int, url: str) -> None:
    """Press Start Training. Label Studio answers 200 whatever the backend says: ask the backend for the outcome.

    Raises
    ------
    StudioNotFoundError
        The project has no such backend.
    """
    backend = find(client, project_id, url)
    client.http.request("POST", f"/api/ml/{backend.id}/train", body={}).close()


def deactivate_webhook(client: StudioClient, project_id: int, url: str) -> int:
    """Switch off the webhook that connecting a backend creates; return the number that were active.

    It would call the backend at every annotation while the annotator waits. Start Training works without it.
    """
    active = [webhook for webhook in webhooks(client, project_id, url) if webhook.get("is_active")]
    for webhook in active:
        client.http.json("PATCH", f"/api/webhooks/{webhook['id']}/", body={"is_active": False})
    return len(active)


def webhooks(client: StudioClient, project_id: int, url: str) -> list[dict[str, Any]]:
    """List a project's webhooks that call a backend, as Label Studio stores them (`id`, `is_active`)."""
    rows = client.http.json("GET", "/api/webhooks/", params={"project": project_id})
    return [row for row in rows if _same_url(str(row.get("url")), url.rstrip("/") + "/webhook")]


def _connect_error(error: StudioError, url: str) -> StudioError:
    """Turn Label Studio's refusal of a backend into an error with a remedy."""
    text = str(error)
    if _PRIVATE_ADDRESS in text:
        return AddressRefusedError(
            f"Label Studio refuses to call {url}, because it is a private address; start Label Studio with"
            " ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false (both) in its environment and connect again"
        )
    if isinstance(error, StudioAuthError):
        return error
    if "authentication parameters" in text:
        return StudioError(
            f"the backend at {url} requires a user name and password; set BASIC_AUTH_USER and BASIC_AUTH_PASS to"
            " the values it was started with"
        )
    if "health check failed" in text:
        # Label Studio's own text is a paragraph with a link; the reason stands at its end.
        reason = re.search(r"\[Errno [0-9]+\] ([A-Za-z ]+)|(timed out)", text)
        text = f"its health check failed ({(reason[1] or reason[2]).lower() if reason else 'no answer'})"
    return StudioError(
        f"Label Studio cannot use the backend at {url}: {text}. Check that `usl-backend serve` is running and that"
        " Label Studio reaches it at this URL (USL_PUBLIC_URL; from a container for example"
        " http://host.docker.internal:9090, with USL_PAGES_URL=http://localhost:9090 for browsers)"
    )


def _from_row(row: Mapping[str, Any]) -> Backend:
    """Convert an entry of Label Studio's listing."""
    return Backend(
        id=int(row["id"]),
        url=str(row.get("url") or ""),
        title=str(row.get("title") or ""),
        state=str(row.get("state") or ""),
        error=str(row.get("error_message") or ""),
        basic_auth_user=str(row.get("basic_auth_user") or ""),
        extra_params=row.get("extra_params"),
    )


def _same_url(one: str, other: str) -> bool:
    """Compare two URLs, ignoring a trailing slash."""
    return one.rstrip("/") == other.rstrip("/")
