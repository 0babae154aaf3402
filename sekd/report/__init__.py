"""The report of a finished evaluation: one page for a person, and its tables in every format."""

from __future__ import annotations

from collections.abc import Mapping

from sekd.analysis.results import Evaluation
from sekd.report.controls import controls_table
from sekd.report.formats import FORMATS
from sekd.report.page import render_page
from sekd.report.tables import all_tables

PAGE = "report.html"


def build_report(results: Evaluation) -> Mapping[str, str]:
    """Relative path in the run -> content: ``report.html`` and ``report/<table>.<suffix>``."""
    tables = [
        table for table in [*all_tables(results), controls_table(results)] if table.has_figures
    ]
    files = {
        f"report/{table.name}.{suffix}": write(table)
        for table in tables
        for suffix, write in FORMATS.items()
    }
    return {PAGE: render_page(results, tables), **files}
