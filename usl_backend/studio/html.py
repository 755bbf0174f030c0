"""Visible text of HTML as browsers show it; Lexbor parses by the standard, this module knows what is displayed how."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from selectolax.lexbor import LexborHTMLParser, LexborNode

_HIDDEN: Final = frozenset(
    """annotation annotation-xml area audio base basefont canvas datalist defs desc dialog head iframe link
    meta metadata noembed noframes noscript object param rp script style template title video""".split()  # noqa: SIM905
)
"""Elements that browsers do not display, or only by what is not text."""
_BLOCKS: Final = frozenset(
    """address article aside blockquote body br caption center dd details dir div dl dt fieldset figcaption
    figure footer form h1 h2 h3 h4 h5 h6 header hgroup hr html legend li listing main menu nav ol
    optgroup option p plaintext pre search section summary table tbody tfoot thead tr ul xmp""".split()  # noqa: SIM905
)
"""Elements that begin and end a line."""
_CELLS: Final = frozenset({"td", "th"})
_VERBATIM: Final = frozenset({"listing", "plaintext", "pre", "textarea", "xmp"})
_BLANKS: Final = re.compile(r"[ \t\n\r\f]+")
_NOT_SHOWN: Final = re.compile(r"display\s*:\s*none", re.IGNORECASE)
# Lexbor's time grows with the square of both: of 20,000 tags within each other, and of the attributes of a tag.
_MOST_TAGS: Final = 20_000
_MOST_ATTRIBUTES: Final = 1_000


def visible_text(markup: str, *, most: int) -> str:
    """Return the text that a browser shows of a piece of HTML, with a line for each block.

    Parameters
    ----------
    markup
        HTML, well-formed or not; of more than 20,000 tags the rest is not read.
    most
        Number of characters after which it may end.
    """
    pieces: list[str] = []
    size = 0
    # Within the body noscript hides what is in it, as it does where scripts run.
    for piece in _pieces(LexborHTMLParser("<body>" + _bounded(markup)).root):
        pieces.append(piece)
        size += len(piece) if piece.strip() else 0
        if size > most:
            break
    return "".join(pieces)


def _pieces(root: LexborNode | None) -> Iterator[str]:
    """Yield the visible texts below a node with white space between blocks; without recursion, as nesting is deep."""
    waiting: list[tuple[LexborNode | str, bool]] = [] if root is None else [(root, False)]
    while waiting:
        node, verbatim = waiting.pop()
        if isinstance(node, str):
            yield node
            continue
        tag = node.tag
        if tag == "-text":
            text = node.text_content or ""
            yield text if verbatim else _BLANKS.sub(" ", text)
        elif tag is None or tag.startswith(("-", "!")) or not _is_shown(node, tag):
            continue
        else:
            around = "\n" if tag in _BLOCKS else "\t" if tag in _CELLS else ""
            if around:
                yield around
                waiting.append((around, False))
            inside = verbatim or tag in _VERBATIM
            waiting.extend((child, inside) for child in reversed(_children(node, tag)))


def _children(node: LexborNode, tag: str) -> list[LexborNode]:
    """Return the children that are displayed: of closed details only the summary."""
    found = list(node.iter(include_text=True))
    if tag == "details" and "open" not in node.attributes:
        return [child for child in found if child.tag == "summary"][:1]
    return found


def _is_shown(node: LexborNode, tag: str) -> bool:
    """Return False for elements that are not displayed."""
    if tag in _HIDDEN:
        return tag == "dialog" and "open" in node.attributes
    attributes = node.attributes
    return "hidden" not in attributes and not _NOT_SHOWN.search(attributes.get("style") or "")


def _bounded(markup: str) -> str:
    """Leave out the tags that would take a parser minutes."""
    first, *tags = markup.split("<", _MOST_TAGS + 1)
    del tags[_MOST_TAGS:]
    kept = (tag for tag in tags if len(tag) < _MOST_ATTRIBUTES or _attributes(tag) <= _MOST_ATTRIBUTES)
    return "<".join((first, *kept))


def _attributes(tag: str) -> int:
    """Return about how many attributes a tag has, given without its "<"."""
    return len(tag.partition(">")[0].split()) - 1 if tag[:1].isalpha() else 0
