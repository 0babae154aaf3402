"""Write a table as Markdown, CSV or LaTeX, or for the terminal.

The page's template writes its HTML. A machine (CSV) is given every digit and every interval; a
person is given rounded numbers.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
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
    an empty field. A name that a spreadsheet would run as a formula gets an apostrophe in front.
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
                continue
            field = _neutralise_formula(value) if isinstance(value, str) else value
            fields += [field, None, None] if is_wide else [field]
        writer.writerow(fields)
    return page.getvalue()


def to_latex(table: Table) -> str:
    """Write a ``longtable`` in small print, which breaks over pages with its heading repeated."""
    alignments = "".join("l" if is_left else "r" for is_left in _alignments(table))
    lines = [f"% {table.title}", *([f"% {table.note}"] if table.note else [])]
    lines += ["% needs \\usepackage{booktabs,longtable}"]
    lines += ["{\\footnotesize", "\\setlength{\\tabcolsep}{3pt}"]
    lines += [f"\\begin{{longtable}}{{{alignments}}}", "\\toprule"]
    lines += [" & ".join(_heading_texts(table, _escape_latex)) + r" \\", "\\midrule"]
    lines += ["\\endhead", "\\bottomrule", "\\endfoot"]
    rows = iter(_row_texts(table, _escape_latex))
    for number, size in enumerate(table.groups):
        if number:
            lines.append("\\addlinespace")
        lines += [" & ".join(next(rows)) + r" \\" for _ in range(size)]
    return "\n".join([*lines, "\\end{longtable}", "}", ""])


_SHORTEST_NAME = 4  # characters of a name, the ellipsis included


def to_terminal(table: Table, width: int | None = None) -> RichTable:
    """Make a table for :class:`rich.console.Console`.

    Args:
        width: the number of characters in a line. Where the table is wider, columns of figures are
            left out from the right, which the caption says; the first figure and its interval are
            always shown, and names are shortened if there is no other way.
    """
    left_out: list[str] = []
    name_widths = [_text_width(table, index) for index in range(table.num_names)]
    shown = _rich_table(table, left_out, name_widths)
    while width is not None and Console(width=1 << 16).measure(shown).maximum > width:
        if len(table.columns) > table.num_names + 1:
            left_out.insert(0, table.columns[-1].heading)
            rows = [list(row)[:-1] for row in table.rows]
            table = replace(table, columns=table.columns[:-1], rows=rows)
        elif max(name_widths, default=0) > _SHORTEST_NAME:
            name_widths[name_widths.index(max(name_widths))] -= 1
        else:
            break
        shown = _rich_table(table, left_out, name_widths)
    return shown


def _rich_table(table: Table, left_out: Sequence[str], name_widths: Sequence[int]) -> RichTable:
    notes = [table.note] if table.note else []
    if left_out:
        notes.append(f"Not shown in this width: {', '.join(left_out)}.")
    caption = Text(neutralise_controls(" ".join(notes)))
    shown = RichTable(
        title=Text(neutralise_controls(table.title)),
        caption=caption if notes else None,
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    headings = _heading_texts(table, neutralise_controls)
    for index, (heading, is_left) in enumerate(zip(headings, _alignments(table), strict=True)):
        shown.add_column(
            Text(heading),
            justify="left" if is_left else "right",
            no_wrap=True,
            max_width=name_widths[index] if index < table.num_names else None,
        )
    rows = iter(_row_texts(table, neutralise_controls))
    for size in table.groups:
        for _ in range(size):
            shown.add_row(*map(Text, next(rows)))  # a name in [brackets] is no markup
        shown.add_section()
    return shown


def _text_width(table: Table, index: int) -> int:
    """Return the number of characters of the widest text of a column of names."""
    texts = [row[index] for row in _row_texts(table, neutralise_controls)]
    return max(map(cell_len, [table.columns[index].heading, *texts]))


def neutralise_controls(text: str, *, keeps_lines: bool = False) -> str:
    """Replace what a terminal would act on, such as escape bytes in a name.

    Args:
        keeps_lines: line breaks stay as they are.
    """
    pattern = r"[\x00-\x09\x0b-\x1f\x7f-\x9f]" if keeps_lines else r"[\x00-\x1f\x7f-\x9f]"
    return re.sub(pattern, "\N{REPLACEMENT CHARACTER}", text)


FILE_WRITERS: Mapping[str, Callable[[Table], str]] = {
    "md": to_markdown,
    "csv": to_csv,
    "tex": to_latex,
}
"""Suffix of a file -> its writer."""


def _neutralise_formula(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


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
