"""One run from start to end: fetch, embed, select, publish.

`execute` is imported on first use, so a server does not load the numerical libraries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from usl_backend.pipeline.run import execute

__all__ = ["execute"]


def __getattr__(name: str) -> object:
    """Import `execute` on first use."""
    if name == "execute":
        from usl_backend.pipeline.run import execute

        return execute
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
