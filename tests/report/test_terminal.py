"""Tables in a terminal: what matters is never cut, what is left out is said, nothing acts."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
from evaluations import COST, read, row
from rich.console import Console

from sekd.report.inspect.text import render_sample
from sekd.report.inspect.views import SampleView, TurnView
from sekd.report.table import Column, Table
from sekd.report.tables import cells_table
from sekd.report.writers import to_csv, to_latex, to_terminal


def printed(table: Table, width: int) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(to_terminal(table, width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def wide_table(tmp_path: Path, dataset: str = "unseen") -> Table:
    levels = {str(level): {"value": 90.0, "low": 87.0, "high": 93.0} for level in range(1, 8)}
    rows = [
        row(model, paradigm, hca, cost=COST, zero_shot=True, dataset=dataset, level_accuracy=levels)
        for model, paradigm, hca in (
            ("base", "conditioned", 100.0),
            ("student", "independent", 0.0),
            ("student", "joint", 45.8),
        )
    ]
    rows.append(row("student", "joint", 12.3, control="blind", zero_shot=True, dataset=dataset))
    return cells_table(read(tmp_path, *rows))


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_hca_and_its_interval_are_never_cut(tmp_path: Path, width: int) -> None:
    text = printed(wide_table(tmp_path), width)
    assert max(map(len, text.splitlines())) <= width
    for figure in ("HCA", "95 %", "100.0", "97.0\u2013100.0", " 0.0", "0.0\u20133.0", "45.8"):
        assert figure in text
    assert "12.3" not in text  # controls have a table of their own
    body = text.split("\u2500")[-1]
    shown = [heading for heading in ("leaf", "unparsed", "n", "cost") if heading in text]
    assert ("Not shown in this width" in body.replace("\n", " ")) == (width < 200)
    assert ("leaf" in shown) or width < 80


def test_long_names_give_way_and_figures_do_not(tmp_path: Path) -> None:
    text = printed(wide_table(tmp_path, dataset="a dataset with a very long name " * 3), 60)
    assert max(map(len, text.splitlines())) <= 60
    assert "100.0" in text
    assert "97.0\u2013100.0" in text
    assert "\N{HORIZONTAL ELLIPSIS}" in text


def named(name: str) -> Table:
    columns = [Column("name", "name"), Column("hca", "HCA")]
    return Table("t", "Title", columns, 1, [[name, 1.0]], [1])


def test_names_in_a_title_or_note_are_no_markup() -> None:
    table = replace(named("gull"), title="of [red]gulls[/red]\x1b[0m", note="[bold]all[/bold]")
    text = "".join(printed(table, 80).split())  # a title is as narrow as its table
    assert "of[red]gulls[/red]" in text
    assert "[bold]all[/bold]" in text
    assert "\x1b" not in text


def test_a_dialogue_with_escape_bytes_does_not_act_either() -> None:
    turn = TurnView(
        level=1,
        rank="order",
        heard="What is it?\nA. gull\x1b[2J",
        said="A. gull\x1b]0;title\x07",
        options=(),
        top=(),
        tail_mass=None,
        norms={},
        confidence=1.0,
        option_mass=1.0,
        num_prompt_tokens=1,
        num_cached_tokens=0,
        parity=None,
    )
    console = Console(width=80, file=io.StringIO())
    for part in render_sample(SampleView("id\x1b[31m", "image.png", (turn,))):
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert not {"\x1b", "\x07"} & set(text)
    assert "What is it?\n" in text.replace("  ", "").replace(" \n", "\n")


def test_escape_bytes_in_a_name_do_not_reach_the_terminal() -> None:
    text = printed(named("gull\x1b[31m\x07\x9b2J\r"), 80)
    assert not set("\x1b\x07\x9b\r") & set(text)
    assert "gull\N{REPLACEMENT CHARACTER}[31m" in text


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1"])
def test_a_formula_in_a_csv_is_a_text(name: str) -> None:
    (line,) = csv.DictReader(io.StringIO(to_csv(named(name)), newline=""))
    assert line["name"] == f"'{name}"
    assert line["hca"] == "1.0"


def test_a_negative_number_in_a_csv_stays_a_number() -> None:
    table = Table("t", "Title", [Column("name", "name"), Column("d", "d")], 1, [["a", -1.5]], [1])
    (line,) = csv.DictReader(io.StringIO(to_csv(table)))
    assert line["d"] == "-1.5"


def test_a_latex_table_breaks_over_pages() -> None:
    text = to_latex(named("gull"))
    assert text.index(r"\begin{longtable}{lr}") < text.index(r"\endhead") < text.index("gull")
    assert text.rstrip().endswith("\\end{longtable}\n}")
