"""Tell before anything is labeled which formats the labels of a project can be exported in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from usl_backend.exports.formats import formats_for
from usl_backend.studio.labels import classifier, kinds_of

if TYPE_CHECKING:
    from usl_backend.exports.split import Holds
    from usl_backend.instances import Modality
    from usl_backend.studio.label_config import ControlTag, LabelConfig


@dataclass(frozen=True)
class UsableFormats:
    """Formats that can say what a label config asks for.

    Attributes
    ----------
    holds
        What is known of a labeled task.
    formats
        Names of the formats.
    reason
        Clause about the label config.
    """

    holds: Holds
    formats: tuple[str, ...]
    reason: str

    @property
    def limited(self) -> bool:
        """True if formats of one class per task cannot be used, or not for every task."""
        return self.holds != "class"

    def __str__(self) -> str:
        """Say which formats can be used, and why."""
        return f"{self.reason}: labels can be exported as {', '.join(self.formats)}"


def usable_formats(config: LabelConfig, modality: Modality | None = None) -> UsableFormats:
    """Return the formats for a project's labels.

    Parameters
    ----------
    config
        The project's label config.
    modality
        What its tasks show; None for any.
    """
    holds, reason = _asked(config)
    modalities: tuple[Modality, ...] = ("image", "text") if modality is None else (modality,)
    names = dict.fromkeys(name for one in modalities for name in formats_for(holds, one))
    return UsableFormats(holds, tuple(names), reason)


def holds_of(tag: ControlTag | None) -> Holds:
    """Return what tasks hold that a tag has labeled; None for a label config without classes of whole tasks.

    A Taxonomy nearly always allows several classes, and is seldom given any, so it counts as one class.
    """
    if tag is None:
        return "annotations"
    return "classes" if tag.multiple and tag.type == "Choices" else "class"


def _asked(config: LabelConfig) -> tuple[Holds, str]:
    """Return what the label config says about a task, and how."""
    found = config.classifiers
    if not found:
        return (
            "annotations",
            f"the label config asks for {kinds_of(config.controls)}, not for classes of whole tasks",
        )
    same = [tag for tag in found if tag.type == found[0].type]
    if len(same) > 1:
        names = ", ".join(tag.name for tag in same)
        holds: Holds = "classes" if any(holds_of(tag) == "classes" for tag in same) else "class"
        return holds, f"there are several {same[0].type} ({names}), of which --control chooses one"
    tag = classifier(config)
    if holds_of(tag) == "classes":
        return "classes", f"Choices {tag.name!r} takes several classes per task"
    return "class", f"{tag.type} {tag.name!r} gives a task its class"
