"""Two played annotators: real users of Label Studio who ask for the next task and label it from the truth.

They see what people would see: only Label Studio's own next-task call says what comes next.
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
        Somebody who may invite.
    email, password
        Of the new user.

    Returns
    -------
    str
        The new user's legacy token.

    Raises
    ------
    StudioError
        The invitation is not accepted.
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
                f"Label Studio did not let {email} sign up ({error}); see whether its sign-up is open"
            ) from error


def hire(owner: StudioClient, count: int) -> list[StudioClient]:
    """Sign up new annotators: nobody who might still hold a task from an earlier start.

    Parameters
    ----------
    owner
        Somebody who may invite.
    count
        How many.

    Returns
    -------
    list of StudioClient
        One for each; the caller closes them.
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
        Who takes turns.
    project_id
        What they label.
    turns
        How many tasks in all.
    choice
        Task id -> the label a person would give.
    control
        `from_name` and `to_name` of the label config's choices.
    progress
        Called after each turn with the turns done and `turns`.

    Returns
    -------
    list of int
        Task ids in the order in which they were served; shorter than `turns` when there was nothing left.
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
