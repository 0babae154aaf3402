from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from evaluations import COST, comparison, read, row, whole_metrics

from sekd.report.headline import Headline, make_headline
from sekd.report.key_figure import KeyFigure

JOINT = ("student", "joint"), ("base", "joint")


def plain(text: str) -> str:
    """With plain spaces and hyphens, as a reader sees it."""
    for odd, usual in (("\u00a0", " "), ("\u2060", ""), ("\u2212", "-"), ("\u2013", "-")):
        text = text.replace(odd, usual)
    return text


def figures(found: Headline) -> dict[str, KeyFigure]:
    return {figure.title: figure for figure in found.figures}


def of(tmp_path: Path, *rows: dict[str, Any], comparisons: Sequence[Any] = ()) -> Headline:
    return make_headline(read(tmp_path, *rows, comparisons=comparisons))


def test_the_headline_has_four_figures(tmp_path: Path) -> None:
    metrics = whole_metrics()
    found = of(tmp_path, *metrics["rows"], comparisons=metrics["comparisons"])
    assert plain(found.sentence) == (
        "Asked for everything at once on birds, the student gets the whole path right far more "
        "often: 10.0 → 70.0 % of the images. It paid for that: asked one level at a time, it is "
        "worse than the base (40.0 → 20.0 %)."
    )
    gained, kept, lost, cost = found.figures
    assert (gained.title, gained.value, gained.verdict) == ("Gained", "+60.0", "gain")
    assert plain(gained.evidence) == "95 %: +50.0 to +70.0"
    assert [plain(line) for line in gained.details] == [
        "the student without the image: 15.0 % (12.0-18.0)",
        "from the options alone, knowing the taxonomy: 58.2 %",
    ]
    assert (kept.title, kept.value) == ("Kept", "88")
    assert plain(kept.evidence) == "-10.0 points; 95 %: -16.0 to -4.0"
    assert (lost.title, plain(lost.value), lost.verdict) == ("Lost", "-20.0", "loss")
    assert plain(cost.meaning) == "for a whole path; its teacher takes 2"
    assert "152 tokens" in cost.evidence


@pytest.mark.parametrize(
    ("interval", "words", "tone"),
    [
        ((2.0, 1.0, 3.0), "gets the whole path right more often: 50.0 → 52.0 %", "gain"),
        ((2.0, -1.0, 5.0), "is not measurably better than the base: 50.0 → 52.0 %, 95 %", "noise"),
        ((0.0, 0.0, 0.0), "is not measurably better", "noise"),
        ((-2.0, -3.0, -1.0), "less often than the base", "loss"),
    ],
)
def test_the_paired_comparison_decides_the_verdict(
    tmp_path: Path, interval: tuple[float, float, float], words: str, tone: str
) -> None:
    rows = row("base", hca=50.0), row("student", hca=52.0)
    found = of(tmp_path, *rows, comparisons=[comparison(*JOINT, interval)])
    assert words in plain(found.sentence)
    assert figures(found)["Gained"].verdict == tone


def test_a_difference_that_fails_the_corrected_test_is_noise(tmp_path: Path) -> None:
    """Five to none has p = 0.0625, whatever an interval says; six to none 0.03, or 0.06 of two."""
    rows = row("base", hca=50.0), row("student", hca=52.0)

    def verdict(num_only_student: int, num_comparisons: int) -> KeyFigure:
        compared = comparison(*JOINT, (2.0, 1.0, 3.0))
        counts = {"num_only_a": num_only_student, "num_only_b": 0}
        compared["agreement"]["hca"] = compared["agreement"]["hca"] | counts
        others = [
            comparison(("student", p), ("base", p), (0.0, -1.0, 1.0))
            for p in ("independent", "conditioned")
        ]
        found = of(tmp_path, *rows, comparisons=[compared, *others[: num_comparisons - 1]])
        return figures(found)["Gained"]

    assert verdict(5, 1).verdict == "noise"
    assert verdict(6, 1).verdict == "gain"
    assert verdict(6, 2).verdict == "noise"
    assert plain(verdict(6, 2).evidence) == "95 %: +1.0 to +3.0; corrected p = 0.062"
    assert verdict(7, 2).verdict == "gain"


@pytest.mark.parametrize(
    ("student", "tone", "proof"),
    [
        (70.0, "gain", "intervals do not touch"),
        (54.0, "noise", "intervals overlap"),
        (56.0, "noise", "intervals overlap"),  # the ends are the same
        (30.0, "loss", "intervals do not touch"),
    ],
)
def test_without_a_paired_interval_the_cells_intervals_must_not_touch(
    tmp_path: Path, student: float, tone: str, proof: str
) -> None:
    found = of(tmp_path, row("base", hca=50.0), row("student", hca=student))
    gained = figures(found)["Gained"]
    assert (gained.verdict, gained.evidence) == (tone, proof)
    assert ("not measurably" in found.sentence) == (tone == "noise")


def test_a_drop_within_noise_is_no_loss(tmp_path: Path) -> None:
    found = of(
        tmp_path,
        row("base", hca=10.0),
        row("student", hca=79.0),
        row("base", "conditioned", 80.0),
        row("student", "conditioned", 78.0),
    )
    lost = figures(found)["Lost"]
    assert (plain(lost.value), lost.unit, lost.verdict) == ("-2.0", "points, within noise", "noise")
    assert plain(lost.meaning).startswith("no clear drop in 1 other cell")
    assert "paid" not in found.sentence


def test_without_a_drop_nothing_is_lost(tmp_path: Path) -> None:
    found = of(
        tmp_path,
        row("base", hca=10.0),
        row("student", hca=81.0),
        row("base", "conditioned", 80.0),
        row("student", "conditioned", 82.0),
    )
    assert (
        figures(found)["Lost"].meaning == "no drop in 1 other cell of the student against the base"
    )


def test_the_largest_clear_drop_leads_even_behind_a_larger_unclear_one(tmp_path: Path) -> None:
    pairs = [("independent", -9.0, -20.0, 2.0), ("conditioned", -5.0, -8.0, -2.0)]
    rows = [row("base", hca=10.0), row("student", hca=70.0)]
    rows += [row(m, p, 50.0) for p, *_ in pairs for m in ("base", "student")]
    given = [comparison(("student", p), ("base", p), (v, lo, hi)) for p, v, lo, hi in pairs]
    lost = figures(of(tmp_path, *rows, comparisons=given))["Lost"]
    assert plain(lost.value) == "-5.0"
    assert "step by step" in lost.meaning


def test_the_largest_of_several_losses_leads(tmp_path: Path) -> None:
    falls = {"independent": 45.0, "conditioned": 80.0}
    rows = [row("base", hca=10.0), row("student", hca=70.0)]
    rows += [row("base", p, 90.0) for p in falls]
    rows += [row("student", p, hca) for p, hca in falls.items()]
    lost = figures(of(tmp_path, *rows))["Lost"]
    assert plain(lost.value) == "-45.0"
    assert [plain(line) for line in lost.details] == [
        "birds, against its teacher: 90.0 → 70.0 %",
        "birds, conditioned: 90.0 → 80.0 %",
    ]


def test_a_student_behind_its_teacher_has_lost(tmp_path: Path) -> None:
    rows = row("base", hca=10.0), row("student", hca=70.0), row("base", "conditioned", 90.0)
    found = of(tmp_path, *rows)
    assert plain(figures(found)["Lost"].value) == "-20.0"
    assert "in one call against its teacher's walk on birds" in figures(found)["Lost"].meaning
    assert "In one call, it is worse than its teacher's walk (90.0 → 70.0 %)." in plain(
        found.sentence
    )


def test_a_student_that_costs_more_than_its_teacher_is_said(tmp_path: Path) -> None:
    def cost(tokens: float, seconds: float) -> dict[str, Any]:
        return COST | {"prefill_tokens": tokens, "decode_tokens": 0.0, "seconds": seconds}

    def caution(tokens: float, seconds: float) -> str:
        rows = [
            row("base", hca=10.0),
            row("student", cost=cost(tokens, seconds)),
            row("base", "conditioned", 50.0, cost=cost(100.0, 1.0)),
        ]
        return plain(figures(of(tmp_path, *rows))["Cost"].caution)

    assert caution(90.0, 1.0) == ""
    assert caution(100.4, 1.0) == (
        "The student costs more than its teacher: 101 % of its tokens, 100 % of its time."
    )
    assert "99 % of its tokens, 150 % of its time" in caution(99.6, 1.5)


def test_replies_of_the_student_that_cannot_be_parsed_are_said(tmp_path: Path) -> None:
    unread = {"value": 19.0, "low": 16.0, "high": 23.0}
    found = of(tmp_path, row("base"), row("student", parse_failure_rate=unread))
    assert plain(figures(found)["Gained"].caution) == (
        "19 % of the student's own replies could not be parsed."
    )


def test_the_first_figure_is_the_gain_without_the_format(tmp_path: Path) -> None:
    unread = {"value": 100.0, "low": 97.0, "high": 100.0}
    rows = [row("base", hca=0.0, parse_failure_rate=unread), row("student", hca=70.0)]
    gained = figures(of(tmp_path, *rows))["Gained"]
    assert gained.caution.endswith("joint_forced would give the gain without it.")
    rows += [row("base", "joint_forced", 5.0), row("student", "joint_forced", 71.0)]
    forced = ("student", "joint_forced"), ("base", "joint_forced")
    paired = [
        comparison(*forced, (66.0, 60.0, 72.0)),
        comparison(("student", "joint"), ("base", "joint"), (70.0, 65.0, 75.0)),
    ]
    found = of(tmp_path, *rows, comparisons=paired)
    gained = figures(found)["Gained"]
    assert "far more often: 5.0 → 71.0 %" in plain(found.sentence)
    assert plain(gained.meaning) == "whole paths right in one prompt on birds: 5.0 → 71.0 %"
    assert plain(gained.evidence) == "95 %: +60.0 to +72.0"
    assert plain(gained.details[0]) == (
        "in a free reply: 0.0 → 70.0 % (95 %: +65.0 to +75.0; 100 % of the base's unparsed)"
    )
    assert not gained.caution


def test_the_time_of_the_other_ways_at_once_is_given(tmp_path: Path) -> None:
    rows = [
        row(model, paradigm, cost=COST | {"seconds": seconds, "latency": 10 * seconds})
        for model in ("base", "student")
        for paradigm, seconds in (("joint", 0.3), ("joint_forced", 0.2), ("open", 0.1))
    ]
    lines = [plain(line) for line in figures(of(tmp_path, *rows))["Cost"].details]
    assert lines[:2] == [
        "by a free reply: 0.3 s an image (3 s for one alone)",
        "by naming without options: 0.1 s an image (1 s for one alone)",
    ]
    rows.append(row("base", "conditioned", cost=COST | {"seconds": 0.15}))
    assert plain(figures(of(tmp_path, *rows))["Cost"].caution).endswith(
        "134 % of its time. By naming without options it takes 66 % of the teacher's time."
    )


def test_an_evaluation_on_images_that_were_trained_on_is_marked(tmp_path: Path) -> None:
    found = of(tmp_path, row("base"), row("student", num_trained_on=12))
    assert figures(found)["Gained"].caution == (
        "The student was trained on 12 of the images of birds: this is no test."
    )


def test_a_loss_on_another_dataset_counts(tmp_path: Path) -> None:
    rows = [row("base", hca=10.0), row("student", hca=70.0)]
    rows += [row("base", hca=60.0, dataset="food"), row("student", hca=20.0, dataset="food")]
    found = of(tmp_path, *rows)
    assert "on food, it is worse than the base (60.0 → 20.0 %)" in plain(found.sentence)
    (line,) = figures(found)["Gained"].details
    assert plain(line) == "food: 60.0 → 20.0 % (intervals do not touch)"


def test_a_caution_names_a_base_with_many_unparsed_replies(tmp_path: Path) -> None:
    unread = {"value": 100.0, "low": 100.0, "high": 100.0}
    found = of(tmp_path, row("base", hca=0.0, parse_failure_rate=unread), row("student"))
    caution = plain(figures(found)["Gained"].caution)
    assert caution.startswith("100 % of the base's replies could not be parsed")
    assert not figures(of(tmp_path, row("base", hca=0.0), row("student")))["Gained"].caution


def test_a_teacher_that_is_never_right_has_no_share_to_keep(tmp_path: Path) -> None:
    rows = row("base"), row("student"), row("base", "conditioned", 0.0)
    assert "Kept" not in figures(of(tmp_path, *rows))


def test_without_a_student_the_headline_shows_the_base(tmp_path: Path) -> None:
    found = of(tmp_path, row("base", hca=10.0), row("base", "conditioned", 80.0))
    assert plain(found.sentence) == (
        "There is no student in this run: the base alone was measured. On birds it gets 80.0 % of "
        "the paths right asked step by step, 10.0 % of the paths right asked for the whole path at "
        "once."
    )
    assert figures(found).keys() == {"Step by step", "At once"}


def test_without_joint_answers_another_paradigm_is_the_first_figure(tmp_path: Path) -> None:
    cost = COST | {"calls": 5.5}
    rows = [
        row(model, "open", hca, cost=cost) for model, hca in (("base", 20.0), ("student", 60.0))
    ]
    rows += [row("base", "descent", 50.0), row("student", "descent", 55.0)]
    found = of(tmp_path, *rows)
    assert plain(found.sentence) == (
        "Asked to name the whole path on birds, the student gets the whole path right far more "
        "often: 20.0 → 60.0 % of the images."
    )
    assert "learned from its answers to name the whole path without options." in found.experiment
    gained, cost_figure = figures(found)["Gained"], figures(found)["Cost"]
    assert "whole paths right asked to name the whole path" in plain(gained.meaning)
    assert (cost_figure.value, cost_figure.unit) == ("5.5", "calls")
    assert plain(cost_figure.meaning) == "for a whole path"
    descent_alone = of(tmp_path, *rows[2:])
    assert plain(descent_alone.sentence).startswith("Descending among children on birds, the stud")


def test_a_student_that_is_compared_with_no_base_is_said(tmp_path: Path) -> None:
    found = of(tmp_path, row("base", "open"), row("student", "descent"))
    assert "There is no student" not in found.sentence
    assert "The student was asked in no way in which the base was asked, too." in found.sentence
    assert figures(found).keys() == {"Named"}


def test_without_base_and_student_there_are_no_figures(tmp_path: Path) -> None:
    assert not of(tmp_path, row("mine")).figures
