"""Choose the encoders of a pool, after a look at the languages of its texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from usl_backend.embedding.outcome import Access
from usl_backend.encoders.choosing import EncoderChoice, choose_encoders
from usl_backend.encoders.engines import choose_engine
from usl_backend.encoders.languages import MOST_TEXTS, Languages, languages_of
from usl_backend.errors import MediaError, StudioNotFoundError

if TYPE_CHECKING:
    from usl_backend.instances import EmbeddedField, Instance
    from usl_backend.settings import RunSettings
    from usl_backend.sources.media import Media

_MOST_FILES: Final = 20
"""Files with texts that are read for a look; they are read once more to be embedded."""


def encoders_for(
    instances: Sequence[Instance],
    fields: Sequence[EmbeddedField],
    *,
    settings: RunSettings,
    open_media: Callable[[], AbstractContextManager[Media]],
    directory: Path,
) -> EncoderChoice:
    """Choose the encoders of a pool; the same pool on the same host gets the same ones.

    Parameters
    ----------
    instances, fields
        The pool, and what is embedded of it.
    settings
        Its `encoder` is used if it is set, and `engine` and `precision`.
    open_media
        Called if texts lie in files.
    directory
        The host's directory of weights and vectors.

    Raises
    ------
    EncoderError
        As `choose_encoders` and `choose_engine`.
    """
    modalities = [field.modality for field in fields]
    languages = _languages(instances, fields, open_media) if "text" in modalities else None
    engine = choose_engine(settings.engine, settings.precision)
    return choose_encoders(
        settings.encoder, modalities, languages=languages, directory=directory, engine=engine
    )


def _languages(
    instances: Sequence[Instance],
    fields: Sequence[EmbeddedField],
    open_media: Callable[[], AbstractContextManager[Media]],
) -> Languages | None:
    """Look at the texts of some instances."""
    numbers = [number for number, field in enumerate(fields) if field.modality == "text"]
    ordered = sorted(instances, key=lambda instance: instance.id)
    some = [
        part
        for instance in ordered[:: max(1, len(ordered) // MOST_TEXTS)]
        for number in numbers
        for part in instance.of_field(number, "text").parts
    ]
    texts = [part.source for part in some if not part.located]
    files = [part for part in some if part.located]
    if files:
        with open_media() as media:
            texts += _texts_in(files[:: -(-len(files) // _MOST_FILES)], Access(media, 0))
    return languages_of(texts)


def _texts_in(files: Sequence[Instance], access: Access) -> list[str]:
    """Read files with texts; those that cannot be read now are left out."""
    texts: list[str] = []
    for file in files:
        try:
            _, reading = access.read(file, wanted=lambda _: True, once=True)
        except (MediaError, StudioNotFoundError):
            continue
        texts += [one.value for one in reading.contents if isinstance(one.value, str)]
    return texts
