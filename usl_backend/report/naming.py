"""Names of clusters of texts: the words that a cluster's texts have and the others lack."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

WORDS: Final = 3
"""Words in a name."""
_PRIOR: Final = 2.0
"""Tasks of the whole pool that each cluster is mixed with, so that a single task's rare words do not win."""
_LONGEST: Final = 2_000
"""Characters read of each text."""
# Chinese, Japanese and Thai are written without spaces between words; pairs of characters stand for words there.
_UNSPACED: Final = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")


@cache
def _word() -> re.Pattern[str]:
    """Return the pattern of a word: a letter, and more letters or marks.

    Vowels of Hindi, Tamil or Thai are marks, which are no letters to `re`; joiners are within words of Persian.
    """
    marks = "".join(chr(code) for code in range(0x300, 0x10000) if unicodedata.category(chr(code))[0] == "M")
    return re.compile(f"[^\\W\\d_](?:[^\\W\\d_]|[{marks}\u200c\u200d])+")


def words_of(text: str) -> set[str]:
    """Return the distinct words of a text's beginning, in lower case."""
    found: set[str] = set()
    for word in _word().findall(text[:_LONGEST].lower()):
        runs = _UNSPACED.findall(word)
        if runs:
            found.update(run[at : at + 2] for run in runs for at in range(len(run) - 1))
        else:
            found.add(word)
    return found


def cluster_names(texts: Iterable[str], cluster: NDArray[np.integer[Any]], clusters: int) -> list[str]:
    """Name each cluster by the words that tell it from the whole pool best.

    A word's worth is p log(p / q): p is the share of the cluster's tasks that have it, q that of all tasks. Words that
    are everywhere are worth nothing, so no list of stop words is needed, in any language.

    Parameters
    ----------
    texts
        Text of each row, streamed; "" for a row without one.
    cluster : (n,) integers
        Cluster of each row, from 0.
    clusters
        Number of clusters.

    Returns
    -------
    list of str
        Up to three words per cluster, the best first, joined by commas; "" where no word tells anything.
    """
    everywhere: Counter[str] = Counter()
    inside: list[Counter[str]] = [Counter() for _ in range(clusters)]
    sizes = [0] * clusters
    total = 0
    for text, home in zip(texts, cluster.tolist(), strict=True):
        words = words_of(text)
        if not words:
            continue
        total += 1
        everywhere.update(words)
        inside[home].update(words)
        sizes[home] += 1
    return [
        ", ".join(_best(words, size, everywhere, total)) for words, size in zip(inside, sizes, strict=True)
    ]


def _best(words: Counter[str], size: int, everywhere: Counter[str], total: int) -> Sequence[str]:
    """Return the words of a cluster that are worth most, ties in alphabetical order."""
    least = 2 if size >= 4 else 1
    worth: dict[str, float] = {}
    for word, count in words.items():
        q = everywhere[word] / total
        p = (count + _PRIOR * q) / (size + _PRIOR)
        if count >= least and p > q:
            worth[word] = p * math.log(p / q)
    return sorted(worth, key=lambda word: (-worth[word], word))[:WORDS]
