"""The page of an evaluation, with its images inside itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from sekd.analysis.metrics import LEVEL_METRICS, PATH_METRICS
from sekd.analysis.results import Evaluation
from sekd.config import SOLVER
from sekd.data.controls import CONTROLS
from sekd.report import paper
from sekd.report.cases import choose_cases
from sekd.report.charts import draw_charts
from sekd.report.coverage import coverage_charts
from sekd.report.headline import make_headline
from sekd.report.html import render_template
from sekd.report.provenance import provenance_of
from sekd.report.table import Table
from sekd.report.tables import OPTIONS_ALONE, ReportTable
from sekd.report.thumbnails import make_thumbnails

_OTHER_TERMS: Mapping[str, str] = {
    "95 %": "An interval over images. For rates it is Wilson's; for differences it is a bootstrap "
    "over the same images, widened where few of them differ.",
    "corrected p": "McNemar's p for the whole path, by Holm's method for the number of comparisons "
    "in the table. A gain or loss is called one where it is at most 0.05.",
    "quarantined": "Images that a model could not be asked about; they are in no figure.",
}


def render_page(evaluation: Evaluation, tables: Mapping[ReportTable, Table]) -> str:
    """Render the whole page; the same run gives the same page."""
    gallery = choose_cases(evaluation)
    return render_template(
        "page.html.jinja",
        styles=("page.css",),
        scripts=("sort.js", "filter.js"),
        run_name=evaluation.name,
        headline=make_headline(evaluation),
        tables={table.name: table for table in tables.values()},
        folded_tables=_folded_tables(tables),
        charts=draw_charts(evaluation),
        coverage=coverage_charts(evaluation),
        paradigms=_paradigm_meanings(evaluation),
        controls=_control_meanings(evaluation),
        gallery=gallery,
        thumbnails=make_thumbnails(gallery.cases, evaluation.config) if gallery else {},
        provenance=provenance_of(evaluation),
        terms=_terms(),
        paper=paper.SOURCE,
    )  # fmt: skip


def _folded_tables(
    tables: Mapping[ReportTable, Table],
) -> Mapping[str, list[tuple[str, Table]]]:
    """Return section -> summary and table of what can be unfolded there."""
    sections: dict[str, list[tuple[str, Table]]] = defaultdict(list)
    for entry, table in tables.items():
        if entry.section:
            sections[entry.section].append((entry.summary, table))
    return sections


_PARADIGMS = {
    "joint": "all levels are asked at once, in one call",
    "joint_forced": "the same, and the model chooses the letters of a reply that is written for it",
    "independent": "each level is asked by itself",
    "conditioned": "the levels are asked step by step, and the model sees the answers it has "
    "already given",
    "open": "the model names the path without options, and only paths of the taxonomy can be named",
    "descent": "the model chooses among all children of its last answer, from the root on",
}


def _paradigm_meanings(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return what each paradigm of this run means."""
    used = {key.paradigm for key in evaluation.cells}
    return [
        (name.replace("_", " "), meaning) for name, meaning in _PARADIGMS.items() if name in used
    ]


def _control_meanings(evaluation: Evaluation) -> Mapping[str, str]:
    """Return what each control of this run means."""
    used = {key.control for key in evaluation.cells}
    return {
        OPTIONS_ALONE if name == SOLVER else name: control.meaning
        for name, control in CONTROLS.items()
        if name in used
    }


def _terms() -> Mapping[str, str]:
    """Return what each name in the tables means."""
    terms = {}
    for metric in (*PATH_METRICS, *LEVEL_METRICS):
        direction = "" if metric.higher_is_better else " Lower is better."
        terms[metric.title] = f"{metric.definition}{direction}"
    return {**terms, **_OTHER_TERMS}
