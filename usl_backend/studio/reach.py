"""Whether Label Studio answers at all, asked without credentials; whether it takes the token is `client.py`'s."""

from __future__ import annotations

from typing import Final

import requests

from .transport import without_credentials

PATIENCE: Final = 2.0
"""Seconds to wait: a health check must not take longer to say no."""


def is_reachable(url: str) -> bool:
    """Whether a server that could be Label Studio answers at an address.

    Parameters
    ----------
    url
        Label Studio's address, without a trailing slash.

    Returns
    -------
    bool
        False where nobody answers in time, or an error of the server.
    """
    try:
        # a stream, so that an endless answer is not read
        with requests.get(f"{url}/health", timeout=PATIENCE, stream=True, auth=without_credentials) as answer:
            return answer.status_code < 500
    except requests.RequestException:
        return False
