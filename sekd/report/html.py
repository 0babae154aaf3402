"""Render pages from templates, with their style and script inside them.

A page is one HTML file. It loads nothing from anywhere, and its own content security policy forbids
it to. Every name is escaped by the template engine or, in drawings, by the XML library.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sekd.report.drawings.dots import draw_strip
from sekd.report.drawings.probability import draw_probability
from sekd.report.formats import format_share, format_value, format_value_interval


def render_template(
    template: str, *, styles: Sequence[str], scripts: Sequence[str], **values: Any
) -> str:
    """Render a page from a template of ``page_files``.

    Args:
        template: name of the template, which extends ``base.html.jinja``.
        styles, scripts: names of the files whose texts, one after another, the page holds.
        values: what the template shows.
    """
    environment = _environment()
    css, script = (
        "".join(_read_page_file(environment, name) for name in names) for names in (styles, scripts)
    )
    return environment.get_template(template).render(
        policy=_content_policy(css, script),
        css=Markup(css),  # noqa: S704  our own files
        script=Markup(script),  # noqa: S704  our own files
        **values,
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("sekd.report", "page_files"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "format_value": format_value,
        "format_interval": format_value_interval,
        "format_share": format_share,
        "draw_strip": draw_strip,
        "draw_probability": draw_probability,
    }
    return environment


def _read_page_file(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    source, *_ = environment.loader.get_source(environment, name)
    return source


def _content_policy(css: str, script: str) -> str:
    """Allow nothing from outside, and no script and no style but these two."""

    def source(text: str) -> str:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        return f"'sha256-{digest}'"

    return (
        f"default-src 'none'; img-src data:; style-src {source(css)}; script-src {source(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
