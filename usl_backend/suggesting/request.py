"""What to do with suggestions, as a shell, a script or a page asks for it."""

from __future__ import annotations

from dataclasses import dataclass

from usl_backend.errors import InputError


@dataclass(frozen=True)
class SuggestRequest:
    """What to do with suggestions.

    Attributes
    ----------
    dry_run
        Write nothing to Label Studio.
    review
        As in `fill_in`.
    accept
        Share of the accepted suggestions that must be right, 0 < share < 1; None accepts nothing.
    annotate
        Annotate what is accepted.
    control
        Name of the Choices tag; required if the label config has several.

    Raises
    ------
    InputError
        A share out of range, or `annotate` without a share.
    """

    dry_run: bool = False
    review: bool = False
    accept: float | None = None
    annotate: bool = False
    control: str | None = None

    def __post_init__(self) -> None:
        if self.accept is not None and not 0.0 < self.accept < 1.0:
            raise InputError(f"accept is {self.accept}; give a share between 0 and 1, such as 0.95")
        if self.annotate and self.accept is None:
            raise InputError("annotate needs accept: only what can be promised is annotated")
