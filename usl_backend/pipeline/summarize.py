"""Summary of a finished run, built from the results of its stages."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from usl_backend.encoders.engines import engine_in
from usl_backend.runs.inventory import VECTORS
from usl_backend.runs.summary import (
    BudgetNote,
    EncoderNote,
    MethodNote,
    OutlierNote,
    PoolNote,
    ProjectNote,
    ReasonCount,
    SkippedNote,
    Summary,
    Unread,
    outlier_note,
)

if TYPE_CHECKING:
    from usl_backend.encoders.choosing import EncoderChoice
    from usl_backend.instances import Pool
    from usl_backend.outliers import Outliers
    from usl_backend.runs import Run
    from usl_backend.runs.inventory import Inventory
    from usl_backend.runs.published import Published
    from usl_backend.selection.base import Selection
    from usl_backend.settings import RunSettings

SHOWN = 20
"""Maximum entries of a summary's lists, such as unreadable tasks; the artifacts contain all of them."""


def summarize(
    run: Run,
    settings: RunSettings,
    *,
    inventory: Inventory,
    pool: Pool,
    selection: Selection,
    published: Published,
    outliers: Outliers,
    encoder_key: str,
    choice: EncoderChoice,
    seconds: Mapping[str, float],
    encoded: int | None,
    warnings: Sequence[str],
) -> Summary:
    """Summarize a run; the sink adds the destination of its picks.

    Parameters
    ----------
    run, settings
        The run and its resolved settings.
    inventory, pool, selection, published
        Results of the stages.
    outliers
        Those of the pool.
    encoder_key
        Key of the encoder that made the embeddings.
    choice
        Encoders of the pool.
    seconds
        Wall time in seconds of each stage that this attempt computed.
    encoded
        Number of embeddings that were not in the cache; None if an earlier attempt built the pool.
    warnings
        Warnings of the source.
    """
    skipped = inventory.unread(pool)
    labeled = len(set(inventory.labeled) - set(pool.skipped))
    queue = published.queue
    suspects = outlier_note(
        outliers,
        pool,
        picks=queue.of_role("pick"),
        kept_out=settings.exclude_outliers,
        shown=SHOWN,
    )
    return Summary(
        project=ProjectNote(
            inventory.id, inventory.key, inventory.title, inventory.data_key, inventory.classes
        ),
        budget=BudgetNote(
            asked=None if settings.budget is None else settings.budget.text,
            resolved=len(selection.indices),
            default=settings.budget is None,
        ),
        pool=PoolNote(
            tasks=inventory.tasks,
            annotated=inventory.annotated,
            unlabeled=inventory.tasks - inventory.annotated,
            readable=len(pool) - labeled,
            skipped=len(skipped),
            encoded=encoded,
            passed_over="" if inventory.outside is None else inventory.outside.passed_over,
            several=inventory.several,
            incomplete=len(pool.incomplete),
        ),
        skipped=SkippedNote(
            count=len(skipped),
            kinds=tuple(ReasonCount(*found) for found in kinds_of(skipped).most_common()),
            first=tuple(Unread(task, skipped[task]) for task in sorted(skipped)[:SHOWN]),
        ),
        method=MethodNote(
            name=settings.method,
            preset=settings.preset,
            parameters=dict(selection.parameters),
            diagnostics=_brief(selection.diagnostics),
        ),
        encoder=EncoderNote(
            _encoder_name(settings, inventory, choice),
            encoder_key,
            settings.image_size,
            choice.reason,
            engine_in(encoder_key),
        ),
        outliers=suspects,
        seed=settings.seed,
        picks=len(queue.of_role("pick")),
        control=len(queue.control_set),
        reserve=len(queue.of_role("reserve")),
        model_version=published.model_version,
        verified=published.verified,
        carried_over=len(published.carried_over),
        warnings=(
            *warnings,
            *filter(None, [choice.warning]),
            *_of_parts(pool),
            *_of_outliers(suspects, len(queue.of_role("pick"))),
            *_of_training(selection),
            *published.warnings,
        ),
        seconds=dict(seconds),
        dry_run=run.dry_run,
    )


def kinds_of(skipped: Mapping[int, str]) -> Counter[str]:
    """Count reasons by kind; reasons that differ only in numbers or details are one kind."""
    return Counter(re.sub(r"\d[\d,.]*", "N", why.partition(": ")[0]) for why in skipped.values())


def _encoder_name(settings: RunSettings, inventory: Inventory, choice: EncoderChoice) -> str:
    """Return the encoder's name as a user would specify it."""
    if inventory.brings_vectors:
        return VECTORS
    if not choice.encoders:
        return settings.encoder or ""
    return " + ".join(choice.encoders[field.modality] for field in inventory.fields)


def _brief(values: Any) -> Any:
    """Truncate long lists: a summary is read at every poll, and the selection's artifact is complete."""
    if isinstance(values, Mapping):
        return {name: _brief(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_brief(value) for value in values[:SHOWN]]
    return values


def _of_training(selection: Selection) -> list[str]:
    """Return the warnings of a method that trains."""
    return list(selection.diagnostics.get("training", {}).get("warnings", ()))


def _of_outliers(note: OutlierNote, picks: int) -> list[str]:
    """Warn about picks that show nothing."""
    if not note.picks or note.kept_out:
        return []
    told = f"outliers are {note.picks} of {picks} picks and {note.count:,} of {note.known:,} tasks ({note.described})"
    first = f"the first pick is task {note.first[0].task}"
    return [f"{told}; {first}; look at the report's gallery, or keep them out with exclude_outliers"]


def _of_parts(pool: Pool) -> list[str]:
    """Warn about instances that lack some of their several images or texts."""
    if not pool.incomplete:
        return []
    first = min(pool.incomplete)
    count = len(pool.incomplete)
    missing = (
        f"some images or texts of {count:,} {'task' if count == 1 else 'tasks'} are missing from their rows"
    )
    return [f"{missing}; the first is task {first}: {pool.incomplete[first]}"]
