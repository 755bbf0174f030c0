import time

import pytest

from usl_backend.studio.html import visible_text
from usl_backend.studio.texts import normalized


@pytest.mark.parametrize(
    ("markup", "shown"),
    [
        ("<p>One<p>Two", "One\nTwo"),
        ("<ul><li>a<li>b</ul>after", "a\nb\nafter"),
        ("<table><tr><td>a<td>b<tr><td>c</table>", "a b\nc"),
        ("<html><head><title>Title</title><body>seen", "seen"),
        ("<title>Title</title><p>seen", "seen"),
        ("<p>One\ntwo   three</p>", "One two three"),
        ("<pre>one\n  two</pre>", "one\ntwo"),
        ("<custom-element>one</custom-element>two", "onetwo"),
        ("<details><summary>short</summary>long</details>", "short"),
        ("<div hidden>no</div><div style='Display : none'>no</div>seen", "seen"),
        ("<noscript>no</noscript><template>no</template>seen", "seen"),
        ("<textarea><b>x</b></textarea>", "<b>x</b>"),
    ],
)
def test_visible_text__as_browsers_show_it(markup: str, shown: str) -> None:
    assert normalized(visible_text(markup, most=1_000)) == shown


def test_visible_text__ends_after_the_characters_asked_for() -> None:
    text = visible_text("<p>word</p>" * 15_000, most=1_000)
    assert 1_000 < len(text.replace("\n", "")) < 1_010


@pytest.mark.parametrize(
    "markup",
    ["<div>" * 400_000, "<p " + " ".join(f"a{i}=1" for i in range(200_000)) + "> x", "<" * 2_000_000],
    ids=["deep", "attributes", "signs"],
)
def test_visible_text__hostile_markup_takes_seconds(markup: str) -> None:
    started = time.process_time()
    assert len(visible_text("<p>first</p>" + markup, most=1_000)) < 2_000_000
    assert time.process_time() - started < 20


def test_visible_text__long_tags_and_attributes_of_usual_documents_are_read() -> None:
    picture = f"<img src='data:image/png;base64,{'A' * 500_000}' alt='no'>"
    assert normalized(visible_text(f"{picture}<p class='{'c ' * 900}'>seen", most=1_000)) == "seen"
