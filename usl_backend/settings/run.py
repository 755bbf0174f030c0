"""What one run does, merged from its sources; nothing that belongs to the host."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer, field_validator

from usl_backend.encoders import family_of, free_path
from usl_backend.errors import EncoderError, SettingsError
from usl_backend.selection import METHODS, Selector, make
from usl_backend.settings.budget import Budget, default_rows
from usl_backend.settings.host import HostSettings
from usl_backend.settings.names import PREFIX, environment_name, invalid_value, unknown_setting


class RunSettings(BaseModel):
    """What one run does. Stored with the run, so that it can be repeated exactly."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    budget: Budget | None = Field(
        None,
        description='Tasks to choose: a number, a share such as "5%" or "4/class". '
        "Unset: 4 per class, at least 20, at most 10 % of the pool.",
    )
    method: str = Field("usl", description="Selection method.")
    preset: str | None = Field(None, description="Named parameters of the method, such as paper-cifar10.")
    encoder: str | None = Field(
        None,
        description="What turns a task into an embedding. Unset: efficientnet-lite0 for images, minilm for texts.",
    )
    image_size: int | None = Field(
        None,
        ge=32,
        le=1024,
        description="Side to which images are resized, in pixels. Unset: the encoder's own (efficientnet-lite0: 128).",
    )
    data_key: str | None = Field(
        None,
        description="Task data field to embed, where the label config shows several; several together, with or "
        "without weights: `image,text` or `image=1,text=0.5`.",
    )
    seed: int = Field(0, ge=0, le=2**32 - 1, description="Seed of the selection.")
    reserve: int = Field(
        20,
        ge=0,
        le=10_000,
        description="Next-best tasks queued behind the picks, so that nobody is told there is nothing left; "
        "at least as many as annotators.",
    )
    control: int = Field(
        0,
        ge=0,
        le=10_000,
        description="Tasks drawn uniformly from the whole pool, whatever the picks are, and queued right behind "
        "them: an unbiased test set.",
    )
    keep_labels: bool = Field(
        False, description="Tasks already annotated hold their clusters; the budget goes to what they leave."
    )
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the method.")

    @field_validator("budget", mode="before")
    @classmethod
    def _parsed_budget(cls, value: object) -> Budget | None:
        if value is None or value == "":
            return None
        return value if isinstance(value, Budget) else Budget.parse(value)

    @field_serializer("budget")
    def _budget_text(self, value: Budget | None) -> str | None:
        return None if value is None else value.text

    def rows_to_choose(self, *, classes: int, pool: int) -> int:
        """Resolve the budget, or its default, as `Budget.rows` does."""
        if self.budget is None:
            return default_rows(classes=classes, pool=pool)
        return self.budget.rows(classes=classes, pool=pool)

    @field_validator("encoder", mode="before")
    @classmethod
    def _known_encoder(cls, value: object) -> object:
        if value == "":
            return None
        if isinstance(value, str):
            try:
                family_of(value)
            except EncoderError as error:
                raise SettingsError(str(error)) from None
        return value

    @classmethod
    def resolve(
        cls,
        *,
        extra_params: object = None,
        explicit: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
        free_paths: bool = False,
    ) -> RunSettings:
        """Merge the sources: default < environment < extra_params < explicit.

        Parameters
        ----------
        extra_params
            As Label Studio sends them: a JSON string, an object, "" or None.
        explicit
            From flags or a JSON body; None values are ignored.
        environ
            Defaults to the process's environment.
        free_paths
            Whether `explicit` comes from somebody who may name any file of this host as an encoder's: true for
            the command line, never for what comes over the network. The environment always may.

        Raises
        ------
        SettingsError
            Unknown name (the nearest known one is suggested) or impossible value.
        """
        merged: dict[str, Any] = {}
        merged.update(_from_environment(os.environ if environ is None else environ))
        for source, trusted in ((parse_extra_params(extra_params), False), (explicit or {}, free_paths)):
            for name, value in source.items():
                _check_run_name(name)
                if name == "encoder" and not trusted:
                    _check_path(value)
                if value is not None:
                    merged[name] = value
        settings = cls._validated(merged)
        known = settings.selector().values()
        return settings.model_copy(update={"options": {name: known[name] for name in settings.options}})

    def to_json(self) -> dict[str, Any]:
        """Flat JSON object with the same names as flags; method options beside the others."""
        flat = self.model_dump(mode="json", exclude={"options"})
        return {**flat, **self.options}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RunSettings:
        """Inverse of `to_json`, for settings that were checked when their run was made.

        A method that this version does not have is read too, so that its runs can still be shown.
        """
        return cls._validated(values)

    def selector(self, *, workers: int | None = None) -> Selector:
        """Build the selection method with its preset and options.

        Parameters
        ----------
        workers
            Compute threads where the method has such an option and the settings name none; no influence on the
            result.

        Raises
        ------
        SettingsError
            Unknown method, preset or option, or an impossible value.
        """
        options = dict(self.options)
        if workers is not None and self.method in METHODS and "workers" in METHODS[self.method].options():
            options.setdefault("workers", workers)
        return make(self.method, preset=self.preset, options=options)

    @classmethod
    def _validated(cls, flat: Mapping[str, Any]) -> RunSettings:
        """Split a flat object into run options and method options, and check the former."""
        own = {name: value for name, value in flat.items() if name in cls.model_fields and name != "options"}
        own["options"] = {name: value for name, value in flat.items() if name not in cls.model_fields}
        try:
            return cls.model_validate(own)
        except ValidationError as error:
            raise invalid_value(error) from None


def parse_extra_params(value: object) -> dict[str, Any]:
    """extra_params as an object, whatever Label Studio made of them.

    Parameters
    ----------
    value
        JSON string (the UI's text box), object (the API), None or "".

    Raises
    ------
    SettingsError
        Not a JSON object.
    """
    if value is None:
        return {}
    if isinstance(value, str):
        if not value.strip():
            return {}
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise SettingsError(
                f'extra params are not JSON ({error.msg} at character {error.pos}); write {{"budget": 100}}'
            ) from None
        except (ValueError, RecursionError):  # numbers of thousands of digits, brackets without end
            raise SettingsError(
                'extra params hold a number or a nesting that is too large; write {"budget": 100}'
            ) from None
        if value is None:
            return {}
    if not isinstance(value, Mapping):
        raise SettingsError(
            f'extra params are a JSON {type(value).__name__}, not an object; write {{"budget": 100}}'
        )
    return {str(name): entry for name, entry in value.items()}


def check_extra_params(value: object) -> RunSettings:
    """The settings that these extra_params lead to, ignoring the environment; for early refusal.

    Raises
    ------
    SettingsError
        As `RunSettings.resolve`.
    """
    return RunSettings.resolve(extra_params=value, environ={})


def run_option_names() -> tuple[str, ...]:
    """Every name that extra_params, a flag or a JSON body may set: run options, then those of all methods."""
    own = [name for name in RunSettings.model_fields if name != "options"]
    return tuple(dict.fromkeys([*own, *(name for method in METHODS.values() for name in method.options())]))


def _check_run_name(name: str) -> None:
    """Refuse host settings and unknown names."""
    if name in HostSettings.model_fields:
        raise SettingsError(
            f'"{name}" belongs to the host, not to a project; set {environment_name(name)} where the backend runs'
        )
    if name not in run_option_names():
        raise unknown_setting(name, run_option_names())


def _check_path(encoder: object) -> None:
    """Refuse an encoder's path that leads out of the encoder directory, from whoever is not on this host."""
    path = free_path(encoder) if isinstance(encoder, str) else None
    if path is not None:
        raise SettingsError(
            f'encoder is "{encoder}"; a project may only name files below the encoder directory (USL_ENCODER_DIR), '
            f'and "{path}" could lead out of it; put the file there and give its name'
        )


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Run options among the environment variables; a misspelt USL_ variable is refused."""
    by_variable = {environment_name(name): name for name in run_option_names()}
    known = [*by_variable, *map(environment_name, HostSettings.model_fields)]
    for variable in environ:
        if variable.startswith(PREFIX) and variable not in known:
            raise unknown_setting(variable, known, what="environment variable")
    return {name: environ[variable] for variable, name in by_variable.items() if environ.get(variable)}
