"""Settings of the host, which no project may change: addresses, credentials, directories, limits."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from usl_backend.media.limits import MediaLimits
from usl_backend.settings.names import environment_name, invalid_value, unknown_setting

_LIMITS = MediaLimits()


class HostSettings(BaseModel):
    """Settings of this host: addresses, credentials, directories, limits.

    They are read from the environment and from flags, never from extra_params, and are never stored.
    """

    # pydantic up to 2.9 warns of every field that begins with "model_", as MODEL_DIR does.
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, protected_namespaces=())

    label_studio_url: str = Field(
        "http://localhost:8080", description="Address at which this host reaches Label Studio."
    )
    label_studio_host: str = Field(
        "",
        description="Address at which browsers reach Label Studio, its own `LABEL_STUDIO_HOST`, if that differs from "
        "`LABEL_STUDIO_URL`; tasks may name it. Connecting a project tells it too.",
    )
    label_studio_api_key: SecretStr = Field(
        SecretStr(""), description="Personal access token, or legacy token, of a Label Studio user."
    )
    label_studio_local_files_document_root: Path | None = Field(
        None,
        description="Path on this host of Label Studio's local-files root; files below it are read from disk.",
    )
    model_dir: Path = Field(
        Path("~/.local/share/usl-backend"),
        description="Data directory, on a local disk.",
    )
    encoder_dir: Path | None = Field(
        None,
        description="Directory of the weights and vectors that encoders such as `onnx:NAME` refer to. Unset: "
        "`encoders` in the data directory.",
    )
    basic_auth_user: str = Field(
        "", description="User name required from clients; empty: only connections from this machine."
    )
    basic_auth_pass: SecretStr = Field(SecretStr(""), description="Password required from clients.")
    api_token: SecretStr = Field(
        SecretStr(""),
        description="Token of at least 16 characters that scripts may send as a bearer token instead of basic auth.",
    )
    webhook_secret: SecretStr = Field(
        SecretStr(""),
        description="Secret of at least 16 characters that a webhook may send as `X-USL-Webhook-Secret` instead of "
        "basic auth.",
    )
    host: str = Field(
        "127.0.0.1", description="Address to listen on; any but a loopback address requires basic auth."
    )
    port: int = Field(9090, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    public_url: str = Field(
        "",
        description="Address at which Label Studio reaches this backend, if it differs from host and port.",
    )
    pages_url: str = Field(
        "",
        description="Address at which browsers reach this backend's pages, if it differs from `USL_PUBLIC_URL`.",
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="Log format of the server and its runs: text, or json for machines."
    )
    media_workers: int = Field(
        8,
        ge=1,
        le=256,
        description="Threads that fetch and decode media; processes instead of threads for 2,000 pictures or more "
        "with an encoder on a GPU.",
    )
    max_running: int = Field(
        1, ge=1, le=64, description="Maximum number of runs at the same time; others wait."
    )
    keep_runs: int = Field(
        20, ge=1, description="Runs to keep per project; older ones are removed when a run completes."
    )
    cache_max_bytes: int = Field(
        20 * 2**30,
        ge=0,
        description="Maximum size of the embedding cache, in bytes; the oldest embeddings are removed when a run "
        "completes.",
    )
    ray_address: str = Field(
        "",
        pattern=r"^$|^local$|^auto$|^[A-Za-z0-9._-]+:[0-9]+$",
        description="Ray cluster to compute on, with this host as a node: `local`, `auto` or HOST:PORT of its head.",
    )
    media_allowed_hosts: str = Field(
        "", description="Hosts with private addresses from which media may be fetched, comma-separated."
    )
    media_max_bytes: int = Field(_LIMITS.bytes, ge=1, description="Maximum size of a media file, in bytes.")
    media_timeout: float = Field(
        _LIMITS.seconds, gt=0, description="Maximum time to fetch a media file, in seconds."
    )
    media_missing: float = Field(
        0.02,
        ge=0.0,
        le=1.0,
        description="Share of a pool that may be left out because its hosts are busy or away, though each file was "
        "asked for again; a run that would lose more pauses and publishes nothing.",
    )
    media_max_pixels: int = Field(_LIMITS.pixels, ge=1, description="Maximum size of an image, in pixels.")

    @property
    def browser_url(self) -> str:
        """Address at which browsers reach Label Studio."""
        return self.label_studio_host or self.label_studio_url

    @property
    def pages_address(self) -> str:
        """Address at which browsers reach this backend's pages; "" if it is that of host and port."""
        return self.pages_url or self.public_url

    @field_validator("label_studio_url", "label_studio_host", "public_url", "pages_url")
    @classmethod
    def _web_address(cls, value: str) -> str:
        value = value.strip().rstrip("/")
        if value and not re.match(r"https?://[^/\s]+", value):
            raise ValueError("give an address such as http://localhost:8080")
        return value

    @field_validator("model_dir", "encoder_dir", "label_studio_local_files_document_root")
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        return value.expanduser() if value is not None else None

    @classmethod
    def load(
        cls, explicit: Mapping[str, Any] | None = None, *, environ: Mapping[str, str] | None = None
    ) -> HostSettings:
        """Read the settings from the environment, overridden by `explicit` (None values are ignored).

        Raises
        ------
        SettingsError
            Unknown name or invalid value; the message names the variable.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {
            name: environ[environment_name(name)]
            for name in cls.model_fields
            if environ.get(environment_name(name))
        }
        values.update({name: value for name, value in (explicit or {}).items() if value is not None})
        unknown = set(values) - set(cls.model_fields)
        if unknown:
            raise unknown_setting(min(unknown), cls.model_fields)
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            secrets = [name for name, field in cls.model_fields.items() if field.annotation is SecretStr]
            raise invalid_value(error, secrets=secrets, environment=True) from None

    @property
    def media_limits(self) -> MediaLimits:
        """Limits for one media file on this host."""
        return MediaLimits(
            bytes=self.media_max_bytes, seconds=self.media_timeout, pixels=self.media_max_pixels
        )

    @property
    def encoders(self) -> Path:
        """`encoder_dir`, or by default `encoders` in the data directory."""
        return self.encoder_dir or self.model_dir / "encoders"

    @property
    def api_key(self) -> str:
        """Label Studio token in clear text, stripped; empty if none is configured."""
        return self.label_studio_api_key.get_secret_value().strip()

    @property
    def allowed_hosts(self) -> tuple[str, ...]:
        """`media_allowed_hosts` as a tuple of host names."""
        return tuple(part for part in re.split(r"[,\s]+", self.media_allowed_hosts) if part)
