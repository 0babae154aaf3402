"""The page: one HTML file that carries its style, its script and its pictures inside itself.

It asks for nothing from anywhere, and its own policy forbids it to. Every name is escaped by the
template engine or, in drawings, by the XML library.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sekd.analysis.results import Evaluation
from sekd.config import SOLVER
from sekd.report import charts, formats, paper
from sekd.report.cases import choose_cases
from sekd.report.controls import CONTROLS, OPTIONS_ALONE, OPTIONS_ALONE_MEANING
from sekd.report.drawings.dots import strip
from sekd.report.headline import headline
from sekd.report.provenance import provenance_of
from sekd.report.table import Table
from sekd.report.thumbnails import thumbnails

TERMS: Mapping[str, str] = {
    "HCA": "share of images whose every level is right",
    "leaf": "share whose deepest level is right",
    "POR": "share of levels that are right, mean over images",
    "TOR": "share of neighbouring pairs of levels that are both right",
    "S-POR prefix": "length of the right prefix, of all levels",
    "S-POR run": "length of the longest right run anywhere, of all levels",
    "DWPA": "right prefixes, weighted towards the whole path (weights not given by the paper)",
    "TICE": "share of answered paths with an edge that the taxonomy does not have",
    "unparsed": "share of images with an answer that could not be read; never counted as a guess",
    "95 %": "bootstrap interval over images; of differences, paired on the same images",
    "quarantined": "images that could not be asked about; they are in no figure",
}


def render_page(results: Evaluation, tables: Sequence[Table]) -> str:
    """The whole page, the same for the same run."""
    gallery = choose_cases(results)
    css, script = _file("page.css"), _file("filter.js")
    return _environment().get_template("page.html.jinja").render(
        run_name=results.name,
        policy=_policy(css, script),
        css=css,
        script=script,
        headline=headline(results),
        tables={table.name: table for table in tables},
        charts=charts.all_charts(results),
        controls=_controls(results),
        gallery=gallery,
        pictures=thumbnails(gallery.cases, results.config) if gallery else {},
        origin=provenance_of(results),
        terms=TERMS,
        paper=paper.SOURCE,
    )  # fmt: skip


def _controls(results: Evaluation) -> Mapping[str, str]:
    """What the controls of this run mean."""
    used = {key.control for key in results.cells}
    meanings = {name: meaning for name, meaning in CONTROLS.items() if name in used}
    if SOLVER in results.models:
        meanings[OPTIONS_ALONE] = OPTIONS_ALONE_MEANING
    return meanings


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("sekd.report", "page_files"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "shown": formats.shown,
        "interval": formats.interval_text,
        "strip": strip,
    }
    return environment


def _file(name: str) -> Markup:
    """A file of this package, which a template may put in as it is."""
    loader = PackageLoader("sekd.report", "page_files")
    source, *_ = loader.get_source(Environment(autoescape=True), name)
    return Markup(source)  # noqa: S704  our own file


def _policy(css: str, script: str) -> str:
    """Nothing from outside, no script and no style but these two."""

    def source(text: str) -> str:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        return f"'sha256-{digest}'"

    return (
        f"default-src 'none'; img-src data:; style-src {source(css)}; script-src {source(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
