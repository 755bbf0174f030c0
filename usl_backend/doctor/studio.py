"""Checks of Label Studio itself: reachable, recent enough, token valid."""

from __future__ import annotations

import time

from usl_backend.doctor.check import Check, remedy_of
from usl_backend.errors import StudioAuthError, USLError
from usl_backend.studio.client import StudioClient

OLDEST_STUDIO = (1, 20)


def check_studio(client: StudioClient) -> list[Check]:
    """Check that Label Studio responds and accepts the token.

    Parameters
    ----------
    client
        Client for the configured address and token.

    Returns
    -------
    list of Check
        `Label Studio` and, if it is reachable, `token`.
    """
    try:
        # A bad token must not hide that Label Studio itself is reachable.
        release = client.version()
    except USLError as error:
        if not isinstance(error, StudioAuthError):
            return [Check("Label Studio", "failed", str(error), remedy_of(error, studio_url=client.url))]
        release = "unknown"
    found: list[Check] = []
    numbers = tuple(int(part) for part in release.split(".")[:2] if part.isdecimal())
    if len(numbers) == 2 and numbers < OLDEST_STUDIO:
        remedy = f"update it: pip install -U 'label-studio>={OLDEST_STUDIO[0]}.{OLDEST_STUDIO[1]}'"
        found.append(
            Check(
                "Label Studio",
                "warning",
                f"{client.url} runs {release}, older than the tested versions",
                remedy,
            )
        )
    else:
        found.append(Check("Label Studio", "ok", f"{client.url} responds (release {release})"))
    try:
        user = client.whoami()
    except USLError as error:
        return [
            *found,
            Check(
                "token",
                "failed",
                str(error),
                f"create a personal access token at {client.browser_url}/user/account",
            ),
        ]
    detail = f"{client.token_kind} token of {user}"
    days = client.token_days_left(time.time())
    if days is not None and days < 14:
        remedy = f"create a new one at {client.browser_url}/user/account before it expires"
        return [*found, Check("token", "warning", f"{detail}, expires in {days:.0f} days", remedy)]
    return [*found, Check("token", "ok", detail)]
