"""Record where a downloaded model came from, beside its weights, and check the weights against the record."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final

from usl_backend.encoders.files import digest_of
from usl_backend.errors import EncoderError

SUFFIX: Final = ".source.json"


@dataclass(frozen=True, slots=True)
class DownloadRecord:
    """Record of a download.

    Attributes
    ----------
    encoder
        Name, such as `timm:resnet18.a1_in1k`.
    address, revision
        Page or file that it was downloaded from, and its version there; "" if the publisher has none.
    licence
        As its publisher states it; "" if unstated.
    bytes, sha256
        Size, and checksum as of `files.digest_of`.
    dim
        Number of columns of a row.
    """

    encoder: str
    address: str
    revision: str
    licence: str
    bytes: int
    sha256: str
    dim: int | None = None


def record_of(weights: Path) -> Path:
    """Return the path of the record of a file or directory of weights."""
    return weights.with_name(weights.name + SUFFIX)


def write_origin(weights: Path, origin: DownloadRecord) -> None:
    """Write the record of a file or directory of weights, all of it or nothing."""
    path = record_of(weights)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(asdict(origin), indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def read_origin(weights: Path) -> DownloadRecord | None:
    """Return the record of a file or directory of weights; None if it was not downloaded here."""
    try:
        found = json.loads(record_of(weights).read_text(encoding="utf-8"))
        known = {field.name for field in fields(DownloadRecord)}
        return DownloadRecord(**{name: value for name, value in found.items() if name in known})
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def verified_digest(weights: Path, *, encoder: str) -> str:
    """Return the SHA-256 of weights, after comparing it with their record if they have one.

    Raises
    ------
    EncoderError
        They are no longer what was downloaded.
    """
    digest = digest_of(weights)
    origin = read_origin(weights)
    if origin is not None and origin.sha256 != digest:
        raise EncoderError(
            f"encoder {encoder}: {weights} is no longer what was downloaded from {origin.address}; delete it and "
            f"download it again (usl-backend encoders pull {encoder}), or delete {record_of(weights).name} if you "
            "changed it"
        )
    return digest
