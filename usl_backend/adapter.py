"""Model class for users of the label-studio-ml framework, independent of `web/`.

The framework (1.0.9 or 2.x) is not a dependency; its users install it. Their model script is one line:

    from usl_backend.adapter import USLBackend

`USLBackend` combines `SelectionModel` with the framework's base class, which is imported on first use. Each run is
computed in a separate process that outlives the framework's job. Configuration comes from the environment
(LABEL_STUDIO_URL, LABEL_STUDIO_API_KEY, MODEL_DIR, USL_BUDGET, ...), because 1.0.9 drops extra params.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from usl_backend.errors import ActiveRunError, InputError, SettingsError
from usl_backend.jobs import Jobs, supervise_detached
from usl_backend.runs import RunState, RunStore, parse_project_key, project_key
from usl_backend.settings import HostSettings, parse_extra_params

if TYPE_CHECKING:
    USLBackend: type[Any]

logger = logging.getLogger(__name__)

__all__ = ["SelectionModel", "USLBackend"]


class SelectionModel:
    """Methods that the framework calls, as a mixin: list it before LabelStudioMLBase in a custom class."""

    TRAIN_EVENTS = ("START_TRAINING",)
    """Events on which 1.0.9 calls `fit`; the framework's default list lacks this one."""

    def predict(self, tasks: Sequence[Mapping[str, Any]], *_context: Any, **_named: Any) -> list[list[Any]]:
        """Return an empty prediction per task; the queue is written in bulk when a run is published."""
        return [[] for _ in tasks]

    def fit(
        self, *positional: Any, event: str | None = None, data: Mapping[str, Any] | None = None, **_named: Any
    ) -> dict[str, Any]:
        """Queue a run on START_TRAINING and return at once; do nothing on any other event.

        Parameters
        ----------
        *positional
            2.x passes `(event, data)`; 1.0.9 passes `(tasks, workdir)` and the rest by name.
        event, data
            Event name and payload of Label Studio's webhook.

        Returns
        -------
        dict
            {"run", "state"} of the new run or of the one already active; {} for other events.

        Raises
        ------
        InputError
            The payload names no project.
        """
        if event is None and positional and isinstance(positional[0], str):
            event = positional[0]
            data = positional[1] if len(positional) > 1 else data
        if event != "START_TRAINING":
            return {}
        project = (data or {}).get("project")
        if not isinstance(project, Mapping):
            raise InputError(
                "START_TRAINING has no project in its payload; send Label Studio's own webhook payload"
            )
        host = HostSettings.load()
        store = RunStore(host.model_dir)
        try:
            return self._start(store, host, project)
        finally:
            store.close()

    def _start(self, store: RunStore, host: HostSettings, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Queue the run and start a process to compute it."""
        project, _ = parse_project_key(payload.get("id"))
        key = project_key(project, payload.get("created_at"))
        self._remember(store, project, key, payload)
        try:
            run = Jobs(store, host).start_training(project, project_key=key)
        except ActiveRunError as error:
            logger.info("%s", error)
            run = store.get(error.run_id)
        if run.state is RunState.FAILED and run.error is not None:
            logger.error("run %s cannot start: %s", run.id, run.error["message"])
        else:
            supervise_detached(host)
        return {"run": run.id, "state": run.state.value}

    def _remember(self, store: RunStore, project: int, key: str, payload: Mapping[str, Any]) -> None:
        """Store the extra params, which 2.x passes to the model as an attribute."""
        label_config = str(payload.get("label_config") or "")
        try:
            extra_params = parse_extra_params(getattr(self, "extra_params", None))
        except SettingsError as error:
            store.remember_setup(project, key or str(project), label_config=label_config, refused=str(error))
            return
        store.remember_setup(
            project, key or str(project), extra_params=extra_params, label_config=label_config
        )


def __getattr__(name: str) -> type[Any]:
    """Build `USLBackend` on first use, so that this module imports without the framework.

    Raises
    ------
    ImportError
        The framework is not installed.
    """
    if name != "USLBackend":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    try:
        from label_studio_ml.model import LabelStudioMLBase
    except ImportError as error:
        raise ImportError(
            f"USLBackend needs the label-studio-ml framework, which cannot be imported ({error}); install it with "
            "`pip install label-studio-ml redis rq`, or use `usl-backend serve`, which does not need it"
        ) from error
    # A module-level name lets the framework pickle the class for its worker processes.
    made = type(
        name, (SelectionModel, LabelStudioMLBase), {"__module__": __name__, "__doc__": SelectionModel.__doc__}
    )
    globals()[name] = made
    return made
