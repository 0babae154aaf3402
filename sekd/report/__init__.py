"""The report of a finished evaluation: one page for a person, and its tables in every format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sekd.analysis.results import Evaluation
from sekd.io.files import write_atomically
from sekd.io.locations import Location
from sekd.pipeline.status import read_stage_records
from sekd.report.headline import Headline, make_headline
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


@dataclass(frozen=True)
class ReportFiles:
    """The paths of a report's files, and its first screen."""

    page: Location
    tables: Sequence[Location]
    headline: Headline


def write_report(run: Location) -> ReportFiles:
    """Write the page and the tables of a finished evaluation into its run directory.

    Raises:
        ConfigError: if the run has no finished evaluation, or a file of it is damaged.
    """
    evaluation = Evaluation.read(run, read_stage_records(run))
    files = build_report(evaluation)
    for name, content in files.items():
        write_atomically(run / name, content)
    tables = [run / name for name in files if name != PAGE]
    return ReportFiles(run / PAGE, tables, make_headline(evaluation))
