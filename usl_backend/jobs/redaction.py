"""Mask secrets in logs and records; `settings` marks which options are secret."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from usl_backend.settings import HOST_OPTIONS

if TYPE_CHECKING:
    from usl_backend.settings import HostSettings

_SIGNATURES = re.compile(
    r"(?i)([?&](?:x-amz-[a-z-]+|x-goog-[a-z-]+|signature|sig|token|access_token|invite_token|key)=)[^&\s\"'<>]+"
    r"|(\bauthorization['\"]?\s*[:=]\s*['\"]?(?:token|bearer|basic)\s+)[^\s\"',}]+"
)
"""Query parameters and headers that carry credentials."""
_MASK = "***"


def secrets_of(host: HostSettings) -> tuple[str, ...]:
    """Return the configured secrets, longest first; those under 4 characters would mask ordinary words."""
    return _maskable(
        {getattr(host, option.name).get_secret_value().strip() for option in HOST_OPTIONS if option.secret}
    )


def secrets_in_environment() -> tuple[str, ...]:
    """Return the secrets in the environment like `secrets_of`, even if its other settings are invalid."""
    values = {os.environ.get(option.environment, "").strip() for option in HOST_OPTIONS if option.secret}
    return _maskable(values)


def redacted(text: str, secrets: Iterable[str]) -> str:
    """Mask the secrets, URL signatures and authorization headers in `text`."""
    for secret in secrets:
        text = text.replace(secret, _MASK)
    return _SIGNATURES.sub(lambda match: (match[1] or match[2]) + _MASK, text)


def _maskable(values: Iterable[str]) -> tuple[str, ...]:
    """Return the values that are long enough to mask, longest first."""
    return tuple(sorted((value for value in values if len(value) >= 4), key=len, reverse=True))
