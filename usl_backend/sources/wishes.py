"""What people wish of a run's picks, looked up in its pool: pinned and excluded tasks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from usl_backend.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from usl_backend.instances import Instance, Pool
    from usl_backend.runs import RunFiles
    from usl_backend.runs.inventory import Inventory
    from usl_backend.settings import RunSettings
    from usl_backend.studio.client import StudioClient


@dataclass(frozen=True)
class Steered:
    """Wishes in rows of a pool.

    Attributes
    ----------
    pinned : (p,) int64
        Rows that are picked in any case, in this order.
    excluded : (e,) int64
        Rows that must not be queued; ascending.
    warnings
        Standing wishes that could not be kept, one sentence each.
    outliers : (o,) int64
        Other rows that must be neither picks nor spares, but may be drawn for the control set; ascending.
    """

    pinned: NDArray[np.int64]
    excluded: NDArray[np.int64]
    warnings: tuple[str, ...] = ()
    outliers: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    @property
    def unpicked(self) -> NDArray[np.int64]:
        """Rows that must not be picked, ascending."""
        return np.union1d(self.excluded, self.outliers)

    def without_outliers(self, rows: NDArray[np.int64], *, labeled: NDArray[np.int64]) -> Steered:
        """Return the wishes with these outliers kept out of the picks; pinned and labeled ones stay as they are."""
        others = np.concatenate([self.pinned, self.excluded, labeled])
        return replace(self, outliers=np.setdiff1d(rows, others))


UNSTEERED = Steered(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))


@dataclass(frozen=True)
class Wishes:
    """Wishes in ids of instances.

    Attributes
    ----------
    pinned, excluded
        Ids of instances, in the order given.
    keys
        Id -> what the user calls it.
    standing
        Ids from the standing wishes of the project: what has become of such a task since is no mistake of the user.
    warnings
        As in `Steered`.
    """

    pinned: tuple[int, ...] = ()
    excluded: tuple[int, ...] = ()
    keys: Mapping[int, str] = field(default_factory=dict)
    standing: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()

    def in_pool(self, pool: Pool, unread: Mapping[int, str]) -> Steered:
        """Look the wishes up in the pool; `unread` says why instances are not in it.

        Raises
        ------
        InputError
            A pinned instance could not be read.
        """
        rows: list[int] = []
        warnings = list(self.warnings)
        for one in self.pinned:
            if (row := pool.row_of(one)) is not None:
                rows.append(row)
                continue
            why = unread.get(one, "it is not in the pool")
            _amiss(
                f"{self.keys[one]} is pinned, but could not be read: {why}",
                self.keys[one],
                self.standing,
                warnings,
            )
        return Steered(np.asarray(rows, dtype=np.int64), pool.rows_of(self.excluded), tuple(warnings))


def find_wishes(
    settings: RunSettings,
    *,
    inventory: Inventory,
    instances: Sequence[Instance],
    files: RunFiles,
    standing: Collection[str] = (),
) -> Wishes:
    """Look up the pinned and excluded ids of a run among what was listed.

    Parameters
    ----------
    settings
        Settings of the run.
    inventory, instances
        What was listed.
    files
        The run's artifacts, which know the ids of a list.
    standing
        Ids in the standing wishes of the project.

    Raises
    ------
    InputError
        An id is unknown, or a pinned one has a label already; those of standing wishes only give a warning. Or more
        instances are pinned than the budget has.
    """
    if not settings.pin and not settings.exclude:
        return Wishes()
    ids = _ids_of({*settings.pin, *settings.exclude}, inventory, instances, files)
    taken = {*inventory.labeled, *inventory.taken}
    warnings: list[str] = []
    kept: dict[str, list[int]] = {"pinned": [], "excluded": []}
    for what, keys in (("pinned", settings.pin), ("excluded", settings.exclude)):
        for key in keys:
            found = ids.get(key)
            if found is None:
                _amiss(
                    f"{key} is {what}, but {_where(inventory)} has no such {_thing(inventory)}",
                    key, standing, warnings,
                )  # fmt: skip
            elif found not in taken:
                kept[what].append(found)
            elif what == "pinned":
                _amiss(f"{key} is pinned, but has a label already", key, standing, warnings)
    free = (len(instances) or inventory.tasks) - len(inventory.labeled) - len(kept["excluded"])
    check_pins(
        settings, len(kept["pinned"]), settings.rows_to_choose(classes=len(inventory.classes), pool=free)
    )
    return Wishes(
        tuple(kept["pinned"]),
        tuple(kept["excluded"]),
        {one: key for key, one in ids.items()},
        frozenset(standing),
        tuple(warnings),
    )


def check_pins(settings: RunSettings, pinned: int, budget: int) -> None:
    """Raise InputError if more instances are pinned than the budget has."""
    if pinned > budget:
        default = ", the default" if settings.budget is None else ""
        raise InputError(
            f"budget is {budget}{default}, but {pinned} tasks are pinned; raise the budget to {pinned} or more, or "
            "pin fewer"
        )


def excluded_tasks(settings: RunSettings) -> tuple[int, ...]:
    """Return the excluded tasks of a project's run."""
    return tuple(int(one) for one in settings.exclude if one.isdecimal())


def _ids_of(
    keys: set[str], inventory: Inventory, instances: Sequence[Instance], files: RunFiles
) -> dict[str, int]:
    """Return the instance of each key that is there."""
    if inventory.outside is None:
        known = {*(instance.id for instance in instances), *inventory.skipped, *inventory.taken}
        numbers = {key: int(key) for key in keys if key.isascii() and key.isdecimal() and len(key) < 19}
        return {key: number for key, number in numbers.items() if number in known}
    found: dict[str, int] = {}
    listed = False
    for row in files.read_rows():
        listed = True
        if row.key in keys:
            found.setdefault(row.key, row.row)
    if listed:
        return found
    return {key: int(key) for key in keys if key.isascii() and key.isdecimal() and int(key) < inventory.tasks}


def _amiss(sentence: str, key: str, standing: Collection[str], warnings: list[str]) -> None:
    """Raise InputError about a wish of this run, or warn about a standing one."""
    if key not in standing:
        raise InputError(f"{sentence}; take it out of the settings pin and exclude of the run")
    warnings.append(f"{sentence}; the wish is passed over")


def _where(inventory: Inventory) -> str:
    """Name the pool."""
    return f"project {inventory.id}" if inventory.outside is None else inventory.title


def _thing(inventory: Inventory) -> str:
    """Name what the pool consists of."""
    return "task" if inventory.outside is None else "id"


def check_tasks(client: StudioClient, project: int, tasks: Sequence[int], *, pinned: bool) -> None:
    """Refuse standing wishes that cannot be kept: about tasks that are not there, or pins of labeled ones.

    Raises
    ------
    InputError
        No task is named, one is not in the project, or one that shall be pinned has a label.
    """
    if not tasks:
        raise InputError("no task is named; give the ids of tasks")
    found = {task.id: task.unlabeled for task in client.tasks_of(project, tasks)}
    for task in tasks:
        if task not in found:
            raise InputError(f"project {project} has no task {task}")
        if pinned and not found[task]:
            raise InputError(f"task {task} has a label already, so there is nothing to pin")
