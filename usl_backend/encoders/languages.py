"""Tell whether texts are English, from groups of texts that are long enough to tell."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

MOST_TEXTS: Final = 300
"""Texts that are looked at."""
_ENOUGH: Final = 150
"""Characters of a group: on one or two words the detector guesses, on this many it errs on about 1 % of groups."""
_CHARACTERS: Final = 500
"""Characters that are looked at in a text."""


@dataclass(frozen=True, slots=True)
class Languages:
    """Languages of some texts.

    Attributes
    ----------
    texts
        Number of texts with letters that were looked at, at least 1.
    english
        Number of them in English.
    most
        ISO 639 code of the most frequent other language; "" if there is none.
    """

    texts: int
    english: int
    most: str

    @property
    def mostly_english(self) -> bool:
        """True if at least half of the texts are in English."""
        return 2 * self.english >= self.texts

    def __str__(self) -> str:
        share = (
            f"about {round(100 * (self.texts - self.english) / self.texts)} % of the texts are not in English"
        )
        return f"{share} (mostly {self.most})" if self.most else share

    def to_json(self) -> dict[str, Any]:
        """Return all attributes as JSON-able values."""
        return asdict(self)


def languages_of(texts: Sequence[str]) -> Languages | None:
    """Look at an even sample of texts, at most 300; the same texts give the same answer.

    Returns
    -------
    Languages or None
        None if no text has letters, or the detector (of the extras `text` and `e5`) is not installed.
    """
    try:
        from py3langid.langid import classify
    except ImportError:
        return None
    step = max(1.0, len(texts) / MOST_TEXTS)
    chosen = [texts[int(place * step)][:_CHARACTERS] for place in range(min(len(texts), MOST_TEXTS))]
    counts: Counter[str] = Counter()
    for group in _groups([text for text in chosen if any(map(str.isalpha, text))]):
        counts[str(classify(" ".join(group))[0])] += len(group)
    if not counts:
        return None
    others = [language for language, _ in counts.most_common() if language != "en"]
    return Languages(counts.total(), counts["en"], next(iter(others), ""))


def _groups(texts: Sequence[str]) -> Iterator[list[str]]:
    """Join short texts of one script into groups of about 150 characters."""
    open_groups: dict[bool, list[str]] = {}
    for text in texts:
        group = open_groups.setdefault(_is_latin(text), [])
        group.append(text)
        if sum(map(len, group)) >= _ENOUGH:
            yield open_groups.pop(_is_latin(text))
    yield from open_groups.values()


def _is_latin(text: str) -> bool:
    """Return True if at least half of the letters are Latin."""
    letters = [letter for letter in text if letter.isalpha()]
    return 2 * sum(unicodedata.name(letter, "").startswith("LATIN") for letter in letters) >= len(letters)
