"""Settings of one run, merged from environment, extra params and explicit values."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
)

from usl_backend.encoders import family_of, free_path
from usl_backend.encoders.engines import EngineSetting, Precision
from usl_backend.errors import EncoderError, InputError, SettingsError
from usl_backend.instances import FEWEST_CONTROLS
from usl_backend.selection import METHODS, Selector, make
from usl_backend.settings.budget import Budget, default_rows
from usl_backend.settings.host import HostSettings
from usl_backend.settings.ids import check_steering, parse_ids, read_ids
from usl_backend.settings.names import PREFIX, environment_name, invalid_value, unknown_setting

_IDS = ("pin", "exclude")
"""Settings that are lists of ids."""


class RunSettings(BaseModel):
    """Settings of one run, stored with it so that it can be repeated exactly."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    budget: Budget | None = Field(
        None,
        description='Number of tasks to choose: a count, a share such as "5%", or "4/class". '
        "Unset: 4 per class, at least 20, at most 10 % of the pool.",
    )
    method: str = Field("usl", description="Selection method.")
    preset: str | None = Field(None, description="Named set of method options, such as paper-cifar10.")
    encoder: str | None = Field(
        None,
        description="Encoder that embeds tasks. Unset: efficientnet-lite0 for images, minilm for texts, e5-small "
        "(if installed) for texts mostly not English.",
    )
    image_size: int | None = Field(
        None,
        ge=32,
        le=1024,
        description="Side length of the resized images, in pixels. Unset: the encoder's default "
        "(efficientnet-lite0: 128).",
    )
    engine: EngineSetting = Field(
        "auto",
        description="What computes the encoder: torch or openvino. auto: OpenVINO if the extra `fast` is installed and "
        "encoders run on a CPU, else torch.",
    )
    precision: Precision = Field(
        "float32",
        description="Precision of the encoder: bfloat16 is about 1.7 times as fast and gives other rows; only where "
        "the processor computes in it.",
    )
    data_key: str | None = Field(
        None,
        description="Fields of the tasks' data to embed if the label config shows several, or none: `image`, "
        "`pages[0]`, `text:summary`, or several with optional weights: `image,text` or `image=1,text=0.5`. "
        "`text:KEY` reads the texts of PDFs whose addresses the field holds.",
    )
    seed: int = Field(0, ge=0, le=2**32 - 1, description="Seed of the selection.")
    reserve: int = Field(
        20,
        ge=0,
        le=10_000,
        description="Spare tasks behind the picks: at least as many as annotators.",
    )
    control: int = Field(
        0,
        ge=0,
        le=10_000,
        description="Size of a uniformly drawn test set, behind the picks: 20 or more, or 0.",
    )
    keep_labels: bool = Field(
        False,
        description="Count annotated tasks as picks of their clusters and spend the budget on the others.",
    )
    pin: tuple[str, ...] = Field(
        (),
        description="Tasks to pick in any case, first: ids separated by commas, or `@FILE`.",
    )
    exclude: tuple[str, ...] = Field(
        (),
        description="Tasks never to queue, likewise.",
    )
    exclude_outliers: bool = Field(
        False,
        description="Keep pictures and texts that show nothing out of picks and reserve.",
    )
    next: bool = Field(
        False,
        description="Choose a next round by the labels that are there, the rule depending on their number per class. "
        "Sets `keep_labels`.",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="Method options.")

    @field_validator("budget", mode="before")
    @classmethod
    def _parsed_budget(cls, value: object) -> Budget | None:
        if value is None or value == "":
            return None
        return value if isinstance(value, Budget) else Budget.parse(value)

    @field_validator("pin", "exclude", mode="before")
    @classmethod
    def _parsed_ids(cls, value: object, info: ValidationInfo) -> tuple[str, ...]:
        return parse_ids(value, name=str(info.field_name))

    @field_serializer("pin", "exclude")
    def _listed_ids(self, value: tuple[str, ...]) -> list[str] | None:
        return list(value) or None

    @field_serializer("budget")
    def _budget_text(self, value: Budget | None) -> str | None:
        return None if value is None else value.text

    def rows_to_choose(self, *, classes: int, pool: int) -> int:
        """Return the number of rows to choose by the budget or its default, as `Budget.rows` does."""
        if self.budget is None:
            return default_rows(classes=classes, pool=pool)
        return self.budget.rows(classes=classes, pool=pool)

    def check_control(self, pool: int) -> None:
        """Raise InputError for a control set that is larger than the number of tasks it is drawn from."""
        if self.control > pool:
            raise InputError(
                f"control is {self.control} but only {pool} tasks can be drawn; lower control to {pool} or less"
            )

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
            Extra params from Label Studio: a JSON string, an object, "" or None.
        explicit
            Values of flags or a JSON body; None values are ignored.
        environ
            Environment variables; by default those of the process.
        free_paths
            Let `explicit` name any file on this host as an encoder or a list of ids: true for the command line, never
            for values from the network. The environment may always do so.

        Raises
        ------
        SettingsError
            Unknown name (the nearest known one is suggested) or invalid value, a control set on which nothing can
            ever be measured, or a next round by a method that trains.
        """
        merged: dict[str, Any] = {}
        merged.update(_from_environment(os.environ if environ is None else environ))
        for source, trusted in ((parse_extra_params(extra_params), False), (explicit or {}, free_paths)):
            for name, value in source.items():
                _check_run_name(name)
                if name == "encoder" and not trusted:
                    _check_path(value)
                if value is not None:
                    merged[name] = value if trusted or name not in _IDS else parse_ids(value, name=name)
        merged |= {name: read_ids(merged[name], name=name) for name in _IDS if name in merged}
        settings = cls._validated(merged)
        check_steering(settings.pin, settings.exclude)
        if 0 < settings.control < FEWEST_CONTROLS:  # older runs may have such a set
            raise SettingsError(
                f"control is {settings.control}, but nothing can be measured on a control set of fewer than "
                f"{FEWEST_CONTROLS}; give {FEWEST_CONTROLS} or more, or 0 for none"
            )
        method = settings.selector()
        if settings.next and method.trains_on is not None:
            raise SettingsError(
                f"next is set, but the method is {settings.method}, which is trained anew on the whole pool; use the "
                "method usl, or keep_labels without next"
            )
        known = method.values()
        update: dict[str, Any] = {"options": {name: known[name] for name in settings.options}}
        return settings.model_copy(update=update | ({"keep_labels": True} if settings.next else {}))

    def steered(self, *, pin: Sequence[int], exclude: Sequence[int]) -> RunSettings:
        """Return the settings with the standing wishes of a project; where they differ, the run's own settings hold.

        Raises
        ------
        SettingsError
            Together they are more than a run takes.
        """
        own = {*self.pin, *self.exclude}
        pins, excluded = (tuple(str(one) for one in ids if str(one) not in own) for ids in (pin, exclude))
        both = {"pin": (*self.pin, *pins), "exclude": (*self.exclude, *excluded)}
        return self.model_copy(update={name: parse_ids(ids, name=name) for name, ids in both.items()})

    def to_json(self) -> dict[str, Any]:
        """Return a flat JSON object with the names of the flags; method options are on the same level."""
        flat = self.model_dump(mode="json", exclude={"options"})
        return {**flat, **self.options}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RunSettings:
        """Read the result of `to_json`; the settings were checked when their run was created.

        An unknown method is accepted, so that runs of other versions can still be shown.
        """
        return cls._validated(values)

    def selector(self, *, workers: int | None = None) -> Selector:
        """Build the selection method with its preset and options.

        Parameters
        ----------
        workers
            Compute threads, for methods with this option if the settings do not give it; does not change the result.

        Raises
        ------
        SettingsError
            Unknown method, preset or option, or an invalid value.
        """
        options = dict(self.options)
        if workers is not None and self.method in METHODS and "workers" in METHODS[self.method].options():
            options.setdefault("workers", workers)
        return make(self.method, preset=self.preset, options=options)

    @classmethod
    def _validated(cls, flat: Mapping[str, Any]) -> RunSettings:
        """Split a flat object into run options and method options, and check the run options."""
        own = {name: value for name, value in flat.items() if name in cls.model_fields and name != "options"}
        own["options"] = {name: value for name, value in flat.items() if name not in cls.model_fields}
        try:
            return cls.model_validate(own)
        except ValidationError as error:
            raise invalid_value(error) from None


def parse_extra_params(value: object) -> dict[str, Any]:
    """Parse extra_params into an object, in any form that Label Studio sends.

    Parameters
    ----------
    value
        JSON string (from the UI's text box), object (from the API), None or "".

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
    """Resolve extra_params without the environment, to refuse invalid ones early.

    Raises
    ------
    SettingsError
        As `RunSettings.resolve`.
    """
    return RunSettings.resolve(extra_params=value, environ={})


def run_option_names() -> tuple[str, ...]:
    """Return every name that extra_params, a flag or a JSON body may set: run options, then method options."""
    own = [name for name in RunSettings.model_fields if name != "options"]
    return tuple(dict.fromkeys([*own, *(name for method in METHODS.values() for name in method.options())]))


def _check_run_name(name: str) -> None:
    """Raise SettingsError for host settings and unknown names."""
    if name in HostSettings.model_fields:
        raise SettingsError(
            f'"{name}" belongs to the host, not to a project; set {environment_name(name)} where the backend runs'
        )
    if name not in run_option_names():
        raise unknown_setting(name, run_option_names())


def _check_path(encoder: object) -> None:
    """Raise SettingsError for an encoder path that may lead out of the encoder directory."""
    path = free_path(encoder) if isinstance(encoder, str) else None
    if path is not None:
        raise SettingsError(
            f'encoder is "{encoder}"; a project may only name files below the encoder directory (USL_ENCODER_DIR), '
            f'and "{path}" could lead out of it; put the file there and give its name'
        )


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the run options in the environment; raise SettingsError for an unknown USL_ variable."""
    by_variable = {environment_name(name): name for name in run_option_names()}
    known = [*by_variable, *map(environment_name, HostSettings.model_fields)]
    for variable in environ:
        if variable.startswith(PREFIX) and variable not in known:
            raise unknown_setting(variable, known, what="environment variable")
    return {name: environ[variable] for variable, name in by_variable.items() if environ.get(variable)}
