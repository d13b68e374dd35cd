"""Text of models and people as HTML: everything shows, nothing runs, nothing is loaded."""

import pytest

from instructloop.web.markdown import render


@pytest.mark.parametrize(
    "attack",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[click](javascript:alert(1))",
        "[click](JaVaScRiPt:alert(1))",
        "[click](java&#115;cript:alert(1))",
        "[click](data:text/html;base64,PHNjcmlwdD4=)",
        "[click](vbscript:msgbox(1))",
        "<svg/onload=alert(1)>",
        "<iframe src=//evil.example></iframe>",
        '<a href="javascript:alert(1)">x</a>',
        "![x](javascript:alert(1))",
        "![x](https://evil.example/pixel.png)",
        '![x" onerror="alert(1)](y)',
        '[x](https://a.example "\\" onmouseover=alert(1)")',
        "<style>body{display:none}</style>",
        "`<script>alert(1)</script>`",
        "```html\n<script>alert(1)</script>\n```",
        "<!-- x --><b onclick=alert(1)>y</b>",
        "[x]: javascript:alert(1)\n\n[x]",
        '<https://evil.example/?"onload=alert(1)>',
    ],
)
def test_nothing_of_an_attack_becomes_an_element_or_a_dangerous_link(attack: str):
    from html.parser import HTMLParser

    seen: list[tuple[str, dict[str, str | None]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            seen.append((tag, dict(attrs)))

    Reader().feed(str(render(attack)))
    for tag, attributes in seen:
        assert tag in {"p", "a", "code", "pre"}, attack
        assert set(attributes) <= {"href", "title", "rel"}, attack
        assert (attributes.get("href") or "https://").startswith("https://"), attack


def test_what_was_written_as_html_is_seen_as_text():
    assert str(render("<b>bold</b>")) == "<p>&lt;b&gt;bold&lt;/b&gt;</p>\n"


def test_an_image_is_words():
    assert str(render("![a cat](https://a.example/c.png)")) == "<p>image: a cat (https://a.example/c.png)</p>\n"


def test_a_link_tells_the_other_site_nothing():
    assert str(render("[a](https://a.example/)")) == (
        '<p><a href="https://a.example/" rel="noopener noreferrer nofollow">a</a></p>\n'
    )


def test_headings_begin_where_the_page_wants_them():
    assert str(render("# One\n\n## Two", heading=2)) == "<h2>One</h2>\n<h3>Two</h3>\n"
    assert str(render("###### Six", heading=3)) == "<h6>Six</h6>\n"


def test_tables_and_lists_are_rendered():
    html = str(render("| a | b |\n|---|---|\n| 1 | 2 |\n\n3. three"))
    assert "<td>1</td>" in html
    assert '<ol start="3">' in html
