"""The visible text of HTML against a real browser's, whose `innerText` is what is displayed."""

import pytest
from playwright.sync_api import Page

from usl_backend.studio.html import visible_text
from usl_backend.studio.texts import normalized

pytestmark = pytest.mark.browser

CASES = (
    "<p>One<p>Two",
    "<ul><li>a<li>b</ul>after",
    "<dl><dt>word<dd>meaning<dt>next<dd>other</dl>",
    "<table><tr><td>a<td>b<tr><td>c</table>",
    "<table>before<tr><th>head</table>",
    "<html><head><title>Title</title><body>seen",
    "<title>Title</title><p>seen",
    "<head><style>p {color: red}</style><p>One",
    "one <b>t</b>wo",
    "<p>One\ntwo   three</p>",
    "<pre>one\n  two</pre>",
    "one<br>two<br/>three",
    "<!-- not shown --><!doctype html>seen",
    "<details><summary>short</summary>long</details>",
    "<details open><summary>short</summary>long</details>",
    "<div hidden>no</div><div style='Display : none'>no</div>seen",
    "<p>One</p>two<div>three</div>four",
    "&nbsp;one&amp;two &copy three &notit;",
    "<custom-element>one</custom-element>two",
    "<noscript>no</noscript><template>no</template>seen<noscript><p>no</noscript>",
    "<div>never closed <i>but",
    "<b><p>one</b>two</p>",
    "<script>if (a < b) document.write('<p>no')</script>seen",
    "<h1>Head</h1><section><article>one</article></section><center>two</center>",
    "<p>One <img src='data:,' alt='no'> two</p>",
    "a < b and c > d",
    "<dialog>no</dialog><dialog open>yes</dialog>",
)


def test_visible_text__is_what_chromium_shows(page: Page) -> None:
    shown = {}
    for case in CASES:
        page.set_content(f"<!doctype html><body>{case}")
        shown[case] = normalized(page.evaluate("document.body.innerText"))
    assert {case: normalized(visible_text(case, most=1_000)) for case in CASES} == shown
