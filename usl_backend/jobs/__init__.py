"""Start, cancel, resume and recover runs, each in its own process."""

from __future__ import annotations

from usl_backend.jobs.detached import supervise_detached
from usl_backend.jobs.supervisor import Jobs
from usl_backend.jobs.worker import run_here, work

__all__ = ["Jobs", "run_here", "supervise_detached", "work"]
