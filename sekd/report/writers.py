"""Write a table as Markdown, CSV or LaTeX, or for the terminal.

The page's template writes its HTML. A machine (CSV) is given every digit and every interval; a
person is given rounded numbers.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping

from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable
from rich.text import Text

from sekd.analysis.estimates import Estimate
from sekd.report.formats import EN_DASH, MINUS, format_value, format_value_interval
from sekd.report.table import Table


def to_markdown(table: Table) -> str:
    """Write one of GitHub's tables; characters that have a meaning in Markdown are escaped."""
    marks = ["---" if is_left else "---:" for is_left in _alignments(table)]
    rows = [_heading_texts(table, _escape_markdown), marks, *_row_texts(table, _escape_markdown)]
    note = f"\n{_escape_markdown(table.note)}\n" if table.note else ""
    return "".join(f"| {' | '.join(texts)} |\n" for texts in rows) + note


def to_csv(table: Table) -> str:
    """Write CSV (RFC 4180) in full precision.

    A column with intervals becomes three: ``hca``, ``hca_low``, ``hca_high``. A missing value is
    an empty field.
    """
    has_interval = [
        any(isinstance(row[index], Estimate) for row in table.rows)
        for index in range(len(table.columns))
    ]
    page = io.StringIO()
    writer = csv.writer(page)
    header: list[str] = []
    for column, is_wide in zip(table.columns, has_interval, strict=True):
        header.append(column.key)
        if is_wide:
            header += [f"{column.key}_low", f"{column.key}_high"]
    writer.writerow(header)
    for row in table.rows:
        fields: list[object] = []
        for value, is_wide in zip(row, has_interval, strict=True):
            if isinstance(value, Estimate):
                fields += [value.value, value.low, value.high]
            elif is_wide:
                fields += [value, None, None]
            else:
                fields.append(value)
        writer.writerow(fields)
    return page.getvalue()


def to_latex(table: Table) -> str:
    """Write a ``tabular`` of the package booktabs, which the reader puts into a float."""
    alignments = "".join("l" if is_left else "r" for is_left in _alignments(table))
    lines = [f"% {table.title}", *([f"% {table.note}"] if table.note else [])]
    lines += ["% needs \\usepackage{booktabs}"]
    lines += [f"\\begin{{tabular}}{{{alignments}}}", "\\toprule"]
    lines += [" & ".join(_heading_texts(table, _escape_latex)) + r" \\", "\\midrule"]
    rows = iter(_row_texts(table, _escape_latex))
    for number, size in enumerate(table.groups):
        if number:
            lines.append("\\addlinespace")
        lines += [" & ".join(next(rows)) + r" \\" for _ in range(size)]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def to_terminal(table: Table) -> RichTable:
    """Make a table for :class:`rich.console.Console`."""
    shown = RichTable(
        title=table.title, caption=table.note or None, box=SIMPLE_HEAD, pad_edge=False
    )
    for heading, is_left in zip(_heading_texts(table, str), _alignments(table), strict=True):
        shown.add_column(Text(heading), justify="left" if is_left else "right", no_wrap=True)
    rows = iter(_row_texts(table, str))
    for size in table.groups:
        for _ in range(size):
            shown.add_row(*map(Text, next(rows)))  # a name in [brackets] is no markup
        shown.add_section()
    return shown


FILE_WRITERS: Mapping[str, Callable[[Table], str]] = {
    "md": to_markdown,
    "csv": to_csv,
    "tex": to_latex,
}
"""Suffix of a file -> its writer."""


def _alignments(table: Table) -> list[bool]:
    """Return, for each text of a row, whether it is aligned to the left."""
    alignments = []
    for index, column in enumerate(table.columns):
        alignments.append(table.is_left_aligned(index))
        if column.has_interval:
            alignments.append(False)
    return alignments


def _heading_texts(table: Table, escape: Callable[[str], str]) -> list[str]:
    texts = []
    for column in table.columns:
        texts.append(escape(column.heading))
        if column.has_interval:
            texts.append(escape("95 %"))
    return texts


def _row_texts(table: Table, escape: Callable[[str], str]) -> list[list[str]]:
    rows = []
    for row in table.rows:
        texts = []
        for column, value in zip(table.columns, row, strict=True):
            texts.append(escape(format_value(value, column)))
            if column.has_interval:
                texts.append(escape(format_value_interval(value, column)))
        rows.append(texts)
    return rows


def _escape_markdown(text: str) -> str:
    one_line = " ".join(text.split())
    return re.sub(r"([\\`*_\[\]<>|~])", r"\\\1", one_line)


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    EN_DASH: "--",
    MINUS: "$-$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def _escape_latex(text: str) -> str:
    one_line = " ".join(text.split())
    return "".join(_LATEX.get(character, character) for character in one_line)
