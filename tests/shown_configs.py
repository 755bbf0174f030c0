"""Label configs that Label Studio shows, with what its editor shows of a task; seen in a browser with 1.23.2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

CHOICES = '<Choices name="c" toName="x"><Choice value="a"/><Choice value="b"/></Choices>'


@dataclass(frozen=True)
class Shown:
    """A label config, the data of a task in which `{n}` is its number, and what annotators see of it."""

    kind: str
    config: str
    data: dict[str, Any]
    shown: tuple[str, ...]
    data_key: str | None = None


def view(shows: str) -> str:
    return f"<View>{shows}{CHOICES}</View>"


SHOWN = (
    Shown(
        "index",
        view('<Image name="x" value="$images[0]"/>'),
        {"images": ["/a{n}.png", "/b{n}.png"]},
        ("/a{n}.png",),
    ),
    Shown(
        "path", view('<Image name="x" value="$meta.url"/>'), {"meta": {"url": "/a{n}.png"}}, ("/a{n}.png",)
    ),
    Shown(
        "a literal dotted key comes first",
        view('<Image name="x" value="$meta.url"/>'),
        {"meta.url": "/b{n}.png", "meta": {"url": "/a{n}.png"}},
        ("/b{n}.png",),
    ),
    Shown(
        "path to text",
        view('<Text name="x" value="$doc.body"/>'),
        {"doc": {"body": "hello number {n}"}},
        ("hello number {n}",),
    ),
    Shown(
        "index and path",
        view('<Text name="x" value="$docs[1].body"/>'),
        {"docs": [{}, {"body": "second of {n}"}]},
        ("second of {n}",),
    ),
    Shown(
        "list of pictures",
        view('<Image name="x" value="$images"/>'),
        {"images": ["/a{n}.png", "/b{n}.png"]},
        ("/a{n}.png", "/b{n}.png"),
    ),
    Shown(
        "valueList",
        view('<Image name="x" valueList="$pages"/>'),
        {"pages": ["/a{n}.png", "/b{n}.png"]},
        ("/a{n}.png", "/b{n}.png"),
    ),
    Shown(
        "text around fields",
        view('<Text name="x" value="Q: $q A: $a"/>'),
        {"q": "one {n}", "a": 2.0},
        ("Q: one {n} A: 2",),
    ),
    Shown(
        "address around a field",
        view('<Image name="x" value="/data/local-files/?d=pics/$file"/>'),
        {"file": "a{n}.png"},
        ("/data/local-files/?d=pics/a{n}.png",),
    ),
    Shown(
        "text as content",
        view('<Text name="x" value="$words">Read: $words</Text>'),
        {"words": "hi {n}"},
        ("Read: hi {n}",),
    ),
    Shown(
        "Repeater",
        '<View><Repeater on="$pages" indexFlag="{{idx}}"><Image name="x_{{idx}}" value="$pages[{{idx}}].image"/>'
        '<Choices name="c_{{idx}}" toName="x_{{idx}}"><Choice value="a"/></Choices></Repeater></View>',
        {"pages": [{"image": "/a{n}.png"}, {"image": "/b{n}.png"}]},
        ("/a{n}.png", "/b{n}.png"),
    ),
    Shown(
        "Repeater of texts with a flag of its own",
        '<View><Repeater on="$turns" indexFlag="##"><Text name="x_##" value="##: $turns[##]"/>'
        '<Choices name="c_##" toName="x_##"><Choice value="a"/></Choices></Repeater></View>',
        {"turns": ["hello {n}", "bye {n}"]},
        ("0: hello {n}", "1: bye {n}"),
    ),
    Shown(
        "tag names in any case",
        '<View><image name="x" value="$image"/><choices name="c" toName="x"><choice value="a"/></choices></View>',
        {"image": "/a{n}.png"},
        ("/a{n}.png",),
    ),
    Shown(
        "no known object tag, but data_key says what to read",
        view('<Markdown name="x" value="$text"/>'),
        {"text": "hello number {n}"},
        ("hello number {n}",),
        "text",
    ),
    Shown(
        "custom interface, but data_key says what to read",
        '<View><ReactCode name="x" data="$image"/></View>',
        {"image": "/a{n}.png"},
        ("/a{n}.png",),
        "image",
    ),
)
