"""Keeps secrets out of logs and records. Which values are secret is known to `settings`, not here."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from usl_backend.settings import OPTIONS

if TYPE_CHECKING:
    from usl_backend.settings import HostSettings

_SIGNATURES = re.compile(
    r"(?i)([?&](?:x-amz-[a-z-]+|x-goog-[a-z-]+|signature|sig|token|access_token|invite_token|key)=)[^&\s\"'<>]+"
    r"|(\bauthorization['\"]?\s*[:=]\s*['\"]?(?:token|bearer|basic)\s+)[^\s\"',}]+"
)
"""Query parameters and headers that let their reader in."""
_MASK = "***"


def secrets_of(host: HostSettings) -> tuple[str, ...]:
    """The configured secrets, longest first; short ones are left out, they would mask ordinary words."""
    return _masked(
        {getattr(host, option.name).get_secret_value().strip() for option in OPTIONS if option.secret}
    )


def secrets_in_environment() -> tuple[str, ...]:
    """The secrets that the environment names, whether or not the rest of it makes usable settings; as `secrets_of`."""
    values = {os.environ.get(option.environment, "").strip() for option in OPTIONS if option.secret}
    return _masked(values)


def redacted(text: str, secrets: Iterable[str]) -> str:
    """`text` without the secrets, without signatures of signed addresses and without authorization headers."""
    for secret in secrets:
        text = text.replace(secret, _MASK)
    return _SIGNATURES.sub(lambda match: (match[1] or match[2]) + _MASK, text)


def _masked(values: Iterable[str]) -> tuple[str, ...]:
    """What is long enough to be masked, longest first."""
    return tuple(sorted((value for value in values if len(value) >= 4), key=len, reverse=True))
