"""Simulated annotators: users of Label Studio who request the next task and give it its true label.

Label Studio's own next-task call decides the order, as for people.
"""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING

import requests

from usl_backend.errors import StudioError
from usl_backend.studio.client import StudioClient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from usl_backend.progress import Progress


def sign_up(owner: StudioClient, email: str, password: str) -> str:
    """Accept the organisation's invitation as a browser would.

    Parameters
    ----------
    owner
       Client of a user who may invite others.
    email, password
        Credentials of the new user.

    Returns
    -------
    str
        The new user's legacy token.

    Raises
    ------
    StudioError
        The sign-up fails.
    """
    invitation = owner.url + str(owner.http.json("GET", "/api/invite")["invite_url"])
    with requests.Session() as browser:
        try:
            page = browser.get(invitation, timeout=60)
            found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
            form = {"csrfmiddlewaretoken": found[1] if found else "", "email": email, "password": password}
            browser.post(invitation, data=form, headers={"Referer": invitation}, timeout=60)
            answer = browser.get(f"{owner.url}/api/current-user/token", timeout=60)
            answer.raise_for_status()
            return str(answer.json()["token"])
        except (requests.RequestException, KeyError) as error:
            raise StudioError(
                f"{email} could not sign up at Label Studio ({error}); check that its sign-up is open"
            ) from error


def hire(owner: StudioClient, count: int) -> list[StudioClient]:
    """Sign up new annotators, who hold no task from an earlier start.

    Parameters
    ----------
    owner
       Client of a user who may invite others.
    count
        Number of annotators.

    Returns
    -------
    list of StudioClient
        One client for each; the caller closes them.
    """
    return [
        StudioClient(
            owner.url,
            sign_up(owner, f"annotator-{secrets.token_hex(4)}@example.com", secrets.token_urlsafe(12)),
            timeout=120,
        )
        for _ in range(count)
    ]


def play(
    annotators: Sequence[StudioClient],
    project_id: int,
    *,
    turns: int,
    choice: Callable[[int], str],
    control: Mapping[str, str],
    progress: Progress | None = None,
) -> list[int]:
    """Let the annotators label in turn.

    Parameters
    ----------
    annotators
        Clients that take turns.
    project_id
        Project to label.
    turns
        Total number of tasks.
    choice
        Function from task id to label.
    control
        `from_name` and `to_name` of the label config's choices.
    progress
        Called after each turn with the number of turns done and `turns`.

    Returns
    -------
    list of int
        Task ids in the order in which they were served; fewer than `turns` if the tasks ran out.
    """
    served: list[int] = []
    for turn in range(turns):
        annotator = annotators[turn % len(annotators)]
        task = annotator.next_task(project_id)
        if task is None:
            break
        task_id = int(task["id"])
        served.append(task_id)
        value = {"choices": [choice(task_id)]}
        annotator.annotate(task_id, [{**control, "type": "choices", "value": value}])
        if progress:
            progress("labeling", turn + 1, turns)
    return served
