"""Check without credentials that Label Studio answers; `client.py` checks the token."""

from __future__ import annotations

from typing import Final

import requests

from .transport import without_credentials

PATIENCE: Final = 2.0
"""Longest wait in seconds, short because health checks call this."""


def is_reachable(url: str) -> bool:
    """Return True if a server answers `/health` below `url` in time and with a status below 500.

    Parameters
    ----------
    url
        URL of Label Studio, without a trailing slash.
    """
    try:
        # stream: do not read the body, which could be endless
        with requests.get(f"{url}/health", timeout=PATIENCE, stream=True, auth=without_credentials) as answer:
            return answer.status_code < 500
    except requests.RequestException:
        return False
