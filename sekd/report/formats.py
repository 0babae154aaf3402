"""A table as Markdown, CSV, LaTeX, or for the terminal; the page's template writes its HTML.

For people a rate has one digit after the point, and its interval, where shown, a column of its own.
CSV is for machines: every digit, and three columns for every rate with an interval.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping

from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable
from rich.text import Text

from sekd.analysis.metrics import Estimate
from sekd.report.table import Column, Table, Value

EN_DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"


def to_markdown(table: Table) -> str:
    """GitHub's tables; what has a meaning in Markdown is escaped."""
    headings, rows = _for_people(table, _markdown_text)
    marks = ["---"] * table.num_names + ["---:"] * (len(headings) - table.num_names)
    lines = [headings, marks, *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def to_csv(table: Table) -> str:
    """RFC 4180 in full precision; ``hca``, ``hca_low``, ``hca_high``; nothing where nothing is."""
    with_interval = [
        any(isinstance(row[index], Estimate) for row in table.rows)
        for index in range(len(table.columns))
    ]
    page = io.StringIO()
    writer = csv.writer(page)
    header: list[str] = []
    for column, is_wide in zip(table.columns, with_interval, strict=True):
        header += [column.key, f"{column.key}_low", f"{column.key}_high"][: 3 if is_wide else 1]
    writer.writerow(header)
    for row in table.rows:
        cells: list[object] = []
        for value, is_wide in zip(row, with_interval, strict=True):
            if isinstance(value, Estimate):
                cells += [value.value, value.low, value.high]
            else:
                cells += [value, None, None][: 3 if is_wide else 1]
        writer.writerow(cells)
    return page.getvalue()


def to_latex(table: Table) -> str:
    """A ``tabular`` of the package booktabs, to be put into a float of the reader's own."""
    headings, rows = _for_people(table, _latex_text)
    shape = "l" * table.num_names + "r" * (len(headings) - table.num_names)
    lines = [f"% {table.title}", "% needs \\usepackage{booktabs}"]
    lines += [f"\\begin{{tabular}}{{{shape}}}", "\\toprule"]
    lines += [" & ".join(headings) + r" \\", "\\midrule"]
    start = 0
    for size in table.groups:
        if start:
            lines.append("\\addlinespace")
        lines += [" & ".join(cells) + r" \\" for cells in rows[start : start + size]]
        start += size
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def to_terminal(table: Table) -> RichTable:
    """For :class:`rich.console.Console`."""
    shown = RichTable(title=table.title, box=SIMPLE_HEAD, pad_edge=False)
    headings, rows = _for_people(table, str)
    for index, heading in enumerate(headings):
        shown.add_column(
            Text(heading), justify="left" if index < table.num_names else "right", no_wrap=True
        )
    cells = iter(rows)
    for size in table.groups:
        for _ in range(size):
            shown.add_row(*map(Text, next(cells)))  # a name in [brackets] is no markup
        shown.add_section()
    return shown


FORMATS: Mapping[str, Callable[[Table], str]] = {
    "md": to_markdown,
    "csv": to_csv,
    "tex": to_latex,
}
"""Suffix -> writer."""


def shown(value: Value, column: Column) -> str:
    """One value for a person, an interval left out."""
    if value is None:
        return ""
    if isinstance(value, Estimate):
        value = value.value
    if isinstance(value, float):
        if column.is_probability and value < 10**-column.digits:
            return f"<{10**-column.digits:.{column.digits}f}"
        return number(value, column.digits, signed=column.is_signed)
    return f"{value:,}" if isinstance(value, int) else column.labels.get(value, value)


def number(value: float, digits: int = 1, *, signed: bool = False) -> str:
    """With a true minus sign, and never a minus zero."""
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    if not float(text):
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def interval_text(estimate: Estimate, *, signed: bool = False) -> str:
    """Low to high: "92.2-96.5" with an en dash, of signed ends "+1.2 to +3.0"."""
    between = " to " if signed else EN_DASH
    return between.join(number(end, signed=signed) for end in (estimate.low, estimate.high))


def _for_people(table: Table, text: Callable[[str], str]) -> tuple[list[str], list[list[str]]]:
    def expand(column: Column, value: Value) -> Iterator[str]:
        yield text(shown(value, column))
        if column.has_interval and isinstance(value, Estimate):
            yield text(interval_text(value, signed=column.is_signed))
        elif column.has_interval:
            yield ""

    headings = [
        text(name)
        for column in table.columns
        for name in (column.heading, *["95 %"][: int(column.has_interval)])
    ]
    rows = [
        [cell for each in zip(table.columns, row, strict=True) for cell in expand(*each)]
        for row in table.rows
    ]
    return headings, rows


def _markdown_text(text: str) -> str:
    one_line = " ".join(text.split())
    return re.sub(r"([\\`*_\[\]<>|~])", r"\\\1", one_line)


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    EN_DASH: "--",
    MINUS: "$-$",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
}


def _latex_text(text: str) -> str:
    return "".join(_LATEX.get(mark, mark) for mark in " ".join(text.split()))
