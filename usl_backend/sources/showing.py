"""Conversion of tasks to instances: the fields that the label config shows are embedded."""

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
    """Converter from task data to instances.

    Attributes
    ----------
    shown
        The shown fields, at least one.
    vectors
        Data field by which the encoder looks vectors up; "" if it needs none.
    """

    shown: tuple[Field, ...]
    vectors: str = ""

    @classmethod
    def of(cls, config: LabelConfig, settings: RunSettings) -> Showing:
        """Determine the embedded fields of a project.

        Parameters
        ----------
        config
            The project's label config.
        settings
            Settings, of which `data_key` and `encoder` are used.

        Raises
        ------
        InputError
            The label config shows nothing that can be embedded, or `data_key` must be given or corrected.
        EncoderError
            The encoder supports none of the fields.
        """
        shown = embedded_fields(config, settings.data_key)
        return cls(shown, _check_encoder(settings.encoder, shown))

    @property
    def fields(self) -> tuple[EmbeddedField, ...]:
        """Return key, modality and weight of each field."""
        return tuple(EmbeddedField(field.tag.data_key, field.modality, field.weight) for field in self.shown)

    def instance(self, task_id: int, data: Mapping[str, Any]) -> Instance:
        """Convert a task to an instance.

        Parameters
        ----------
        task_id
            Label Studio's id.
        data
            The task's data.

        Raises
        ------
        MediaError
            The data lacks a field; the message is the reason to show.
        """
        (first, *more), *fields = (_sources(field, data) for field in self.shown)
        key = ""
        if self.vectors:
            value = data.get(self.vectors)
            if value is None or value == "":
                raise MediaError(f'its data has no "{self.vectors}"')
            key = value if isinstance(value, str) else json.dumps(value)
        return Instance(task_id, self.shown[0].modality, first, tuple(more), tuple(fields), key)


def _check_encoder(encoder: str | None, shown: Sequence[Field]) -> str:
    """Check the encoder against the fields; return the data field that holds its vector keys, or ""."""
    if encoder is None:
        return ""
    modality = family_of(encoder).modality
    if modality is None:
        if len(shown) > 1:
            raise InputError(f"encoder {encoder} looks up one vector per task; choose a single data_key")
        return vector_field(encoder)
    if all(field.modality != modality for field in shown):
        raise EncoderError(
            f"encoder {encoder} takes {modality}s, but {shown[0].tag.type} {shown[0].tag.name!r} shows "
            f"{shown[0].modality}s; choose another encoder, or unset it"
        )
    return ""


def _sources(field: Field, data: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the addresses, or the text, that a field shows of a task."""
    key = field.tag.data_key
    if key not in data:
        raise MediaError(f'its data has no "{key}"')
    source = data[key]
    if field.modality == "text":
        return (text_of(field.tag, source),)
    if source in (None, "", []) or (isinstance(source, str) and not source.strip()):
        raise MediaError(f'"{key}" is empty')
    found = source if isinstance(source, list) else [source]
    for one in found:
        if not isinstance(one, str):
            raise MediaError(f'"{key}" is a {type(one).__name__}, not an address')
    return tuple(one.strip() for one in found)
