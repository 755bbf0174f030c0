"""What of a task is embedded: the fields that its label config shows, as an instance. No media is read here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usl_backend.encoders import family_of, vector_field
from usl_backend.errors import EncoderError, InputError, MediaError
from usl_backend.instances import EmbeddedField, Instance
from usl_backend.studio.label_config import Field, LabelConfig, embedded_fields
from usl_backend.studio.texts import text_of

if TYPE_CHECKING:
    from usl_backend.settings import RunSettings


@dataclass(frozen=True, slots=True)
class Showing:
    """Turns the data of tasks into instances.

    Attributes
    ----------
    shown
        The fields, at least one.
    vectors
        Field of the data by which the encoder looks vectors up; "" where it needs none.
    """

    shown: tuple[Field, ...]
    vectors: str = ""

    @classmethod
    def of(cls, config: LabelConfig, settings: RunSettings) -> Showing:
        """What is embedded of the tasks of a project.

        Parameters
        ----------
        config
            The project's label config.
        settings
            `data_key` and `encoder` matter here.

        Raises
        ------
        InputError
            The label config shows nothing that can be embedded, or `data_key` has to be given or corrected.
        EncoderError
            The encoder takes none of the fields.
        """
        shown = embedded_fields(config, settings.data_key)
        return cls(shown, _check_encoder(settings.encoder, shown))

    @property
    def fields(self) -> tuple[EmbeddedField, ...]:
        """Key, modality and weight of each field."""
        return tuple(EmbeddedField(field.tag.data_key, field.modality, field.weight) for field in self.shown)

    def instance(self, task_id: int, data: Mapping[str, Any]) -> Instance:
        """The instance of a task.

        Parameters
        ----------
        task_id
            Label Studio's id.
        data
            The task's data.

        Raises
        ------
        MediaError
            The data lacks something; the text is the reason to show.
        """
        sources = [_source(field, data) for field in self.shown]
        key = ""
        if self.vectors:
            value = data.get(self.vectors)
            if value is None or value == "":
                raise MediaError(f'its data has no "{self.vectors}"')
            key = value if isinstance(value, str) else json.dumps(value)
        return Instance(task_id, self.shown[0].modality, sources[0], tuple(sources[1:]), key)


def _check_encoder(encoder: str | None, shown: Sequence[Field]) -> str:
    """Refuse an encoder that takes none of the fields; name the field of the data that vectors are found by.

    Returns
    -------
    str
        "" where vectors are found by the task's id, or the encoder looks none up.
    """
    if encoder is None:
        return ""
    modality = family_of(encoder).modality
    if modality is None:
        if len(shown) > 1:
            raise InputError(f"encoder {encoder} looks up one vector for a task; choose a single data_key")
        return vector_field(encoder)
    if all(field.modality != modality for field in shown):
        raise EncoderError(
            f"encoder {encoder} takes {modality}s, but {shown[0].tag.type} {shown[0].tag.name!r} shows "
            f"{shown[0].modality}s; choose another encoder, or unset it"
        )
    return ""


def _source(field: Field, data: Mapping[str, Any]) -> str:
    """What a field shows of a task: an address or a text."""
    key = field.tag.data_key
    if key not in data:
        raise MediaError(f'its data has no "{key}"')
    source = data[key]
    if field.modality == "text":
        return text_of(field.tag, source)
    if isinstance(source, str) and source.strip():
        return source.strip()
    if isinstance(source, str) or source is None:
        raise MediaError(f'"{key}" is empty')
    raise MediaError(f'"{key}" is a {type(source).__name__}, not an address')
