"""Looks whether a run can succeed here, and says what to do where it cannot; changes nothing but in `connect`.

Every check is a function of its own that returns `Check` lines and raises nothing of this package.
"""

from __future__ import annotations

from usl_backend.doctor.check import Check
from usl_backend.doctor.diagnose import connect, diagnose
from usl_backend.doctor.host import backend_address
from usl_backend.doctor.studio import OLDEST_STUDIO

__all__ = ["OLDEST_STUDIO", "Check", "backend_address", "connect", "diagnose"]
