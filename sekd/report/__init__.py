"""The report of a finished evaluation: one page for a person, and its tables in every format."""

from __future__ import annotations

from collections.abc import Mapping

from sekd.analysis.results import Evaluation
from sekd.report.page import render_page
from sekd.report.tables import REPORT_TABLES
from sekd.report.writers import FILE_WRITERS

PAGE = "report.html"


def build_report(evaluation: Evaluation) -> Mapping[str, str]:
    """Return path in the run -> content: ``report.html`` and ``report/<table>.<suffix>``."""
    tables = {entry: entry.build(evaluation) for entry in REPORT_TABLES}
    tables = {entry: table for entry, table in tables.items() if table.has_figures}
    files = {
        f"report/{table.name}.{suffix}": write(table)
        for table in tables.values()
        for suffix, write in FILE_WRITERS.items()
    }
    return {PAGE: render_page(evaluation, tables), **files}
