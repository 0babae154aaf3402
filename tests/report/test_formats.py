from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from evaluations import read, row, whole_metrics
from rich.console import Console

from sekd.analysis.estimates import Estimate
from sekd.analysis.results import Evaluation
from sekd.report.formats import format_interval, format_number, format_value
from sekd.report.table import Column, Table
from sekd.report.tables import REPORT_TABLES, cells_table, cells_with_controls, controls_table
from sekd.report.writers import to_csv, to_latex, to_markdown, to_terminal

RANKS = {"birds": {1: "order", 2: "species"}}


def ranked(
    tmp_path: Path, *rows: dict[str, Any], ranks: dict[str, dict[int, str]] = RANKS
) -> Evaluation:
    """An evaluation whose levels have these names."""
    return replace(read(tmp_path, *rows), ranks=ranks)


def named(name: str) -> Table:
    """A table of one row with that name in it."""
    columns = [Column("model", "model"), Column("hca", "HCA", has_interval=True)]
    return Table("t", "title", columns, 1, [[name, Estimate(12.34, 10.0, 15.0)]], [1])


def test_all_formats_show_the_same(tmp_path: Path) -> None:
    table = cells_table(ranked(tmp_path, row("student", hca=33.33)))
    page = io.StringIO()
    Console(file=page, width=140).print(to_terminal(table))
    for text in (page.getvalue(), to_markdown(table), to_latex(table)):
        for cell in ("birds", "student", "joint", "33.3", "38.3", "order", "species", "unparsed"):
            assert cell in text
    assert len({line.count("|") for line in to_markdown(table).strip().splitlines()}) == 1


def test_csv_is_exact_and_has_the_interval(tmp_path: Path) -> None:
    table = cells_table(ranked(tmp_path, row(hca=33.333333)))
    (line,) = csv.DictReader(io.StringIO(to_csv(table)))
    assert float(line["hca"]) == 33.333333
    assert float(line["hca_low"]) == pytest.approx(30.333333)
    assert float(line["level_accuracy_2_high"]) == 73.0
    assert line["num_samples"] == "24"


def test_only_people_are_shown_that_a_dataset_is_zero_shot(tmp_path: Path) -> None:
    table = cells_table(ranked(tmp_path, row(zero_shot=True)))
    assert "| birds (zero-shot) | base |" in to_markdown(table)
    assert to_csv(table).splitlines()[1].startswith("birds,base,")


def test_csv_keeps_names_as_they_are() -> None:
    name = 'a "quoted", name\nof | two lines'
    (line,) = csv.DictReader(io.StringIO(to_csv(named(name)), newline=""))
    assert line["model"] == name


def test_markdown_escapes_what_would_be_markup() -> None:
    text = to_markdown(named("a|b *c* [d](e) <b> `f` \\ g\nh"))
    assert r"| a\|b \*c\* \[d\](e) \<b\> \`f\` \\ g h |" in text


def test_latex_escapes_what_would_be_a_command() -> None:
    text = to_latex(named(r"50% of $x_1 & {y} # ~ ^ \input{z}"))
    assert (
        r"50\% of \$x\_1 \& \{y\} \# \textasciitilde{} \textasciicircum{} "
        r"\textbackslash{}input\{z\}"
    ) in text
    assert "10.0--15.0" in text


def test_the_terminal_takes_brackets_as_they_are() -> None:
    page = io.StringIO()
    Console(file=page, width=80).print(to_terminal(named("[bold]x[/bold]")))
    assert "[bold]x[/bold]" in page.getvalue()


@pytest.mark.parametrize(
    ("value", "signed", "text"),
    [(-0.04, False, "0.0"), (-1.25, False, "\u22121.2"), (0.04, True, "0.0"), (3.0, True, "+3.0")],
)
def test_numbers_have_a_true_minus_sign_and_no_minus_zero(
    value: float, signed: bool, text: str
) -> None:
    assert format_number(value, is_signed=signed) == text


def test_a_small_probability_is_never_shown_as_zero() -> None:
    column = Column("p", "p", digits=4, is_probability=True)
    assert [format_value(p, column) for p in (0.25, 0.0001, 0.00004)] == [
        "0.2500",
        "0.0001",
        "<0.0001",
    ]


def test_digits_can_be_significant_ones() -> None:
    assert format_number(0.000123456, 3, is_significant=True) == "0.000123"
    assert format_number(-16.666, 3, is_signed=True, is_significant=True) == "\u221216.7"


def test_intervals_have_a_dash_or_signed_ends() -> None:
    assert format_interval(Estimate(5, 1, 9)) == "1.0\u20139.0"
    assert format_interval(Estimate(5, -1, 9), is_signed=True) == "\u22121.0 to +9.0"


def test_controls_are_right_below_the_cells_that_they_qualify(tmp_path: Path) -> None:
    rows = whole_metrics()["rows"]
    rows.insert(3, rows.pop(6))  # even where a file has the control first
    results = read(tmp_path, *rows)
    keys = [cell.key for cell in cells_with_controls(results)]
    assert [(k.model, k.paradigm, k.control) for k in keys][2:6] == [
        ("base", "conditioned", "none"),
        ("base", "conditioned", "blind"),
        ("student", "joint", "none"),
        ("student", "joint", "blind"),
    ]


def test_a_control_stands_beside_the_plain_figure_on_the_same_images(tmp_path: Path) -> None:
    results = read(tmp_path, *whole_metrics()["rows"])
    text = to_markdown(controls_table(results))
    assert (
        "| birds | student | joint | blind | 15.0 | 12.0\u201318.0 | 68.0 | 65.0\u201371.0 | 24 |"
    ) in text
    assert "| birds | options alone |  |  | 58.2 | 55.2\u201361.2 |  |  | 24 |" in text


def test_missing_figures_have_no_column_and_no_table(tmp_path: Path) -> None:
    results = read(tmp_path, row())
    tables = [entry.build(results) for entry in REPORT_TABLES]
    with_figures = {table.name: table for table in tables if table.has_figures}
    assert "control" not in [column.key for column in with_figures["cells"].columns]
    assert with_figures.keys() == {"cells", "path_metrics", "levels", "first_error", "confusions"}


def test_levels_with_different_names_are_numbered(tmp_path: Path) -> None:
    ranks = {"birds": {1: "order", 2: "species"}, "food": {1: "order", 2: "dish", 3: "sort"}}
    table = cells_table(ranked(tmp_path, row(), ranks=ranks))
    headings = [column.heading for column in table.columns]
    assert headings[-5:] == ["leaf", "unparsed", "n", "order", "L2"]


def test_the_shares_of_easy_questions_are_noted_below_the_table(tmp_path: Path) -> None:
    shares = {"num_questions": 8, "single_option": 12.5, "few_siblings": 62.5}
    rows = [row(questions=shares, dataset="seen"), row(dataset="unseen")]
    table = cells_table(read(tmp_path, *rows))
    note = (
        "Of the questions of seen, 12.5 % have a single option and 62.5 % a wrong option of "
        "another parent."
    )
    assert table.note == note
    assert to_markdown(table).endswith(f"|\n\n{note}\n")
    assert f"% {note}\n" in to_latex(table)
    assert note not in to_csv(table)
