"""Check whether runs can succeed on this host, and suggest remedies; only `connect` changes anything.

Every check is a function that returns `Check` lines and raises no error of this package.
"""

from __future__ import annotations

from usl_backend.doctor.check import Check
from usl_backend.doctor.diagnose import connect, diagnose
from usl_backend.doctor.host import backend_address
from usl_backend.doctor.studio import OLDEST_STUDIO

__all__ = ["OLDEST_STUDIO", "Check", "backend_address", "connect", "diagnose"]
