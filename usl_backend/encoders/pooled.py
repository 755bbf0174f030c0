"""Sentence encoders that average the tokens of one transformer, as MiniLM does, without sentence-transformers.

That library imports scikit-learn, and with it a second OpenMP runtime beside torch's, with which processes of macOS
crash. Models of any other kind are loaded by it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from usl_backend.encoders.vision import import_beside_torchvision

_MODULES: Final = tuple(
    f"sentence_transformers.models.{name}" for name in ("Transformer", "Pooling", "Normalize")
)
_MEAN: Final = "pooling_mode_mean_tokens"


class MeanPooled(nn.Module):
    """A transformer whose row for a text is the mean of its tokens, with its tokenizer; takes what the library's takes.

    Source: `Pooling` of sentence-transformers, mode "mean", to the bit.
    """

    def __init__(self, network: nn.Module, tokenizer: Any, *, max_seq_length: int, normalize: bool) -> None:
        super().__init__()
        self.network = network
        self.tokenizer = tokenizer
        self.max_seq_length = max_seq_length
        self._normalize = normalize

    def forward(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the rows as "sentence_embedding"; inputs are `input_ids` and `attention_mask`."""
        tokens = self.network(**inputs).last_hidden_state
        mask = inputs["attention_mask"].unsqueeze(-1).expand(tokens.size()).to(tokens.dtype)
        rows = torch.sum(tokens * mask, 1) / torch.clamp(mask.sum(1), min=1e-9)
        return {"sentence_embedding": nn.functional.normalize(rows, p=2, dim=1) if self._normalize else rows}


def load_pooled(path: Path, *, encoder: str) -> MeanPooled | None:
    """Load a model saved by sentence-transformers that is the mean of one transformer's tokens.

    Parameters
    ----------
    path
        Its directory.
    encoder
        The encoder's full name, for error messages.

    Returns
    -------
    MeanPooled or None
        None if it is of another kind, or its files do not say.

    Raises
    ------
    EncoderError
        transformers is not installed.
    """
    try:
        modules = json.loads((path / "modules.json").read_text(encoding="utf-8"))
        kinds = tuple(module["type"] for module in modules)
        if kinds not in (_MODULES, _MODULES[:2]) or modules[0]["path"]:
            return None
        pooling = json.loads((path / modules[1]["path"] / "config.json").read_text(encoding="utf-8"))
        told = json.loads((path / "sentence_bert_config.json").read_text(encoding="utf-8"))
        window = told["max_seq_length"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    modes = {name for name, value in pooling.items() if name.startswith("pooling_mode") and value is True}
    plain = set(told) <= {"max_seq_length", "do_lower_case"} and not told.get("do_lower_case")
    if modes != {_MEAN} or not plain or not isinstance(window, int):
        return None
    library = import_beside_torchvision("transformers", encoder=encoder, extra="text")
    options = {"local_files_only": True, "trust_remote_code": False}
    network = library.AutoModel.from_pretrained(str(path), **options)
    tokenizer = library.AutoTokenizer.from_pretrained(str(path), **options)
    return MeanPooled(network, tokenizer, max_seq_length=window, normalize=kinds == _MODULES)
