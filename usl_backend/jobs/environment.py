"""What a process of ours finds in its environment. Tokens travel here and never as arguments."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from usl_backend.settings import OPTIONS

if TYPE_CHECKING:
    from usl_backend.settings import HostSettings

_KEPT_BACK = frozenset({"basic_auth_user", "basic_auth_pass", "api_token", "webhook_secret"})
"""How others log in to the server is nothing a run needs."""


def child_environment(host: HostSettings) -> dict[str, str]:
    """Environment of a child: ours, with the host's settings wherever they came from."""
    environment = dict(os.environ)
    for option in OPTIONS:
        if option.scope != "host":
            continue
        value = getattr(host, option.name)
        shown = value.get_secret_value() if option.secret else value
        environment.pop(option.environment, None)
        if option.name not in _KEPT_BACK and shown not in (None, ""):
            environment[option.environment] = str(shown)
    return environment
