"""Text of people and of models as HTML that can do nothing: no raw HTML, no images, no scripts, links kept apart."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup, escape

TAGS = {"a", "blockquote", "br", "code", "em", "hr", "li", "ol", "p", "pre", "s", "strong", "ul"}
TAGS |= {"h1", "h2", "h3", "h4", "h5", "h6", "table", "tbody", "td", "th", "thead", "tr"}
ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}}
SCHEMES = {"http", "https", "mailto"}
REL = "noopener noreferrer nofollow"


def _image(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    """Return an image as words: labelers must see that the model put one there, and nothing may be loaded."""
    token = tokens[index]
    alt = renderer.renderInlineAsText(token.children or [], options, env)
    return str(escape(f"image: {alt} ({token.attrs.get('src', '')})"))


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.add_render_rule("image", _image)
    return parser


PARSER = _parser()


@lru_cache(maxsize=512)
def render(text: str, heading: int = 1) -> Markup:
    """Return Markdown as safe HTML whose first level of headings is `heading`; raw HTML in it stays visible text."""
    tokens = PARSER.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1:]) + heading - 1)}"
    html = PARSER.renderer.render(tokens, PARSER.options, {})
    return Markup(nh3.clean(html, tags=TAGS, attributes=ATTRIBUTES, url_schemes=SCHEMES, link_rel=REL))
