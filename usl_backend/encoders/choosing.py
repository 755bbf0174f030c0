"""Choose the encoders of a run: what the settings say, else the default for the pool's media and languages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from usl_backend.encoders import DEFAULTS, concrete, family_of, has_own_engine
from usl_backend.encoders.e5 import E5, is_here
from usl_backend.encoders.engines import REFERENCE, Engine
from usl_backend.encoders.languages import Languages
from usl_backend.encoders.sentences import MINILM
from usl_backend.errors import EncoderError

if TYPE_CHECKING:
    from usl_backend.instances import Modality

_ENGLISH_ONLY: Final = frozenset({MINILM})


@dataclass(frozen=True, slots=True)
class EncoderChoice:
    """Encoders of a run.

    Attributes
    ----------
    encoders
        Modality -> encoder, for the modalities of the pool; empty where vectors are looked up.
    languages
        Languages of the pool's texts; None without texts or where the language cannot be told.
    by_language
        True if the languages decided which encoder embeds the texts.
    engine
        What computes those of torch's networks.
    """

    encoders: Mapping[Modality, str] = field(default_factory=dict)
    languages: Languages | None = None
    by_language: bool = False
    engine: Engine = REFERENCE

    @property
    def warning(self) -> str:
        """What to do where the texts are mostly in languages that the encoder does not know; "" elsewhere."""
        encoder = self.encoders.get("text", "")
        if self.languages is None or self.languages.mostly_english or encoder not in _ENGLISH_ONLY:
            return ""
        return (
            f"{self.languages}, and {encoder} knows only English, so that its picks are worth less; the "
            f'encoder {E5} knows a hundred languages (pip install "usl-backend[e5]", --encoder {E5})'
        )

    @property
    def reason(self) -> str:
        """Why another encoder than the usual default was chosen by itself; "" if none was."""
        return str(self.languages) if self.by_language else ""

    def to_json(self) -> dict[str, Any]:
        """Return all attributes as JSON-able values."""
        languages = None if self.languages is None else self.languages.to_json()
        return {
            "encoders": dict(self.encoders),
            "languages": languages,
            "by_language": self.by_language,
            "engine": self.engine.to_json(),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EncoderChoice:
        """Read the result of `to_json`."""
        found = values["languages"]
        return cls(
            cast("Mapping[Modality, str]", values["encoders"]),
            None if found is None else Languages(**found),
            bool(values.get("by_language")),
            Engine.from_json(values["engine"]) if "engine" in values else REFERENCE,
        )


def choose_encoders(
    setting: str | None,
    modalities: Iterable[Modality],
    *,
    languages: Languages | None = None,
    directory: Path | None = None,
    engine: Engine = REFERENCE,
) -> EncoderChoice:
    """Choose an encoder for each modality of a pool.

    Parameters
    ----------
    setting
        The setting `encoder`; None for the defaults. It is used for its own modality.
    modalities
        Of the embedded fields.
    languages
        Languages of the pool's texts. If they are not mostly English and e5-small is on this host, it is the default.
    directory
        The host's directory of weights and vectors.
    engine
        From `choose_engine`.

    Raises
    ------
    EncoderError
        The setting names an unknown encoder, or one of which no weights are on this host; or bfloat16 is asked of an
        encoder with an engine of its own.
    """
    chosen: dict[Modality, str] = dict(DEFAULTS)
    wanted = None if setting is None else family_of(setting).modality
    if setting is not None and wanted is None:
        return EncoderChoice({}, languages)
    foreign = languages is not None and not languages.mostly_english
    by_language = foreign and wanted != "text" and is_here(directory)
    if by_language:
        chosen["text"] = concrete(E5, directory=directory)
    if setting is not None and wanted is not None:
        chosen[wanted] = concrete(setting, directory=directory)
    encoders = {one: chosen[one] for one in dict.fromkeys(modalities)}
    own = [name for name in encoders.values() if has_own_engine(name)]
    if own and engine.precision != REFERENCE.precision:
        raise EncoderError(
            f"precision is {engine.precision}, but {own[0]} is computed by an engine of its own; unset precision"
        )
    if len(own) == len(encoders):
        engine = REFERENCE
    return EncoderChoice(encoders, languages, by_language, engine)
