"""`work`: internal verb of the server, which computes a run in a child process."""

from __future__ import annotations

import click


@click.command(hidden=True)
@click.argument("run_id")
def work(run_id: str) -> None:
    """Compute a run claimed by the server; settings come from the environment."""
    from usl_backend import jobs
    from usl_backend.settings import HostSettings

    click.get_current_context().exit(jobs.work(run_id, host=HostSettings.load()))
