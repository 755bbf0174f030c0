"""Environment of child processes. Tokens are passed here and never as arguments."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from usl_backend.settings import HOST_OPTIONS

if TYPE_CHECKING:
    from usl_backend.settings import HostSettings

_SERVER_ONLY = frozenset({"basic_auth_user", "basic_auth_pass", "api_token", "webhook_secret"})
"""Credentials for logging in to the server; a run does not need them."""


def child_environment(host: HostSettings) -> dict[str, str]:
    """Return this process's environment plus the host settings, whatever their origin."""
    environment = dict(os.environ)
    for option in HOST_OPTIONS:
        value = getattr(host, option.name)
        shown = value.get_secret_value() if option.secret else value
        environment.pop(option.environment, None)
        if option.name not in _SERVER_ONLY and shown not in (None, ""):
            environment[option.environment] = str(shown)
    return environment
