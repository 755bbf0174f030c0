"""Conversion of tasks to instances: the fields that the label config shows are embedded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from usl_backend.encoders import family_of, vector_field
from usl_backend.errors import EncoderError, InputError, MediaError
from usl_backend.instances import EmbeddedField, Instance, TextFile
from usl_backend.studio.fields import Field, embedded_fields

if TYPE_CHECKING:
    from usl_backend.settings import RunSettings
    from usl_backend.studio.label_config import LabelConfig


FIRST_TASKS: Final = 100
"""Tasks that tell what a field holds."""


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
    def of(
        cls, config: LabelConfig, settings: RunSettings, *, first: Sequence[Mapping[str, Any]] = ()
    ) -> Showing:
        """Determine the embedded fields of a project.

        Parameters
        ----------
        config
            The project's label config.
        settings
            Settings, of which `data_key` and `encoder` are used.
        first
            Data of the first tasks.

        Raises
        ------
        InputError
            The label config shows nothing that can be embedded, or `data_key` must be given or corrected.
        EncoderError
            The encoder supports none of the fields.
        """
        shown = embedded_fields(config, settings.data_key, first=first)
        return cls(shown, _check_encoder(settings.encoder, shown))

    @property
    def fields(self) -> tuple[EmbeddedField, ...]:
        """Return key, modality and weight of each field."""
        return tuple(
            EmbeddedField(field.key, field.modality, field.weight, field.in_files) for field in self.shown
        )

    @property
    def _files(self) -> tuple[TextFile | None, ...]:
        """How texts are read from files."""
        files = tuple(field.file for field in self.shown)
        return files if any(files) else ()

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
        (first, *more), *fields = (field.sources(data) for field in self.shown)
        key = ""
        if self.vectors:
            value = data.get(self.vectors)
            if value is None or value == "":
                raise MediaError(f'its data has no "{self.vectors}"')
            key = value if isinstance(value, str) else json.dumps(value)
        return Instance(task_id, self.shown[0].modality, first, tuple(more), tuple(fields), key, self._files)


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
            f"encoder {encoder} takes {modality}s, but {shown[0]} shows {shown[0].modality}s; choose another"
            " encoder, or unset it"
        )
    return ""
