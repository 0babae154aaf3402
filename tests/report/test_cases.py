from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from evaluations import PARADIGMS, prediction_rows, read, row

from sekd.analysis.results import Evaluation
from sekd.config import DistillSpec, RunConfig
from sekd.report.cases import Gallery, choose_cases

RIGHT, WRONG = "r/a", "r/b"


def results(tmp_path: Path, rows: list[dict[str, object]]) -> Evaluation:
    """Results over these predictions, with their column ``correct``."""
    datasets = sorted({str(prediction["dataset"]) for prediction in rows})
    found = read(tmp_path, *(row(dataset=name) for name in datasets))
    for prediction in rows:
        prediction["correct"] = prediction["prediction"] == prediction["truth"]
    return Evaluation(found.cells, predictions=pa.Table.from_pylist(rows))


def answers(sample: str, dataset: str = "birds", **right: bool | None) -> list[dict[str, object]]:
    """One level of one sample; a cell such as ``base_joint`` is right, wrong or unparsed."""
    return [
        {
            "model": cell.split("_")[0],
            "dataset": dataset,
            "paradigm": cell.split("_", maxsplit=1)[1],
            "sample_id": sample,
            "level": 1,
            "rank": "order",
            "truth": RIGHT,
            "prediction": {True: RIGHT, False: WRONG, None: None}[is_right],
        }
        for cell, is_right in right.items()
    ]


def choose(found: Evaluation, **limits: int) -> Gallery:
    gallery = choose_cases(found, **limits)
    assert gallery is not None
    return gallery


@pytest.mark.parametrize(
    ("base", "student", "teacher", "kind"),
    [
        (False, True, True, "repaired"),
        (None, True, True, "repaired"),
        (False, True, False, "beyond the teacher"),
        (True, False, True, "broken"),
        (True, None, False, "broken"),
        (False, False, True, "missed"),
        (False, False, False, "teacher wrong"),
        (True, True, False, "right before and after"),
    ],
)
def test_the_kind_follows_from_which_paths_are_right(
    tmp_path: Path, base: bool | None, student: bool | None, teacher: bool, kind: str
) -> None:
    rows = answers("1", base_joint=base, student_joint=student, base_conditioned=teacher)
    (case,) = choose(results(tmp_path, rows)).cases
    assert case.kind.name == kind


def test_other_kinds_are_used_without_a_student_or_a_teacher(tmp_path: Path) -> None:
    alone = answers("1", base_joint=False, base_conditioned=True)
    assert choose(results(tmp_path, alone)).cases[0].kind.name == "only step by step"
    untaught = answers("1", base_joint=True, student_joint=False)
    assert choose(results(tmp_path, untaught)).cases[0].kind.name == "broken"
    assert choose_cases(results(tmp_path, answers("1", base_joint=True))) is None


@pytest.mark.parametrize("teacher", ["conditioned", "descent"])
@pytest.mark.parametrize("way", ["joint_forced", "open"])
def test_paths_of_any_paradigms_tell_images_apart(tmp_path: Path, way: str, teacher: str) -> None:
    cells = {f"base_{way}": False, f"student_{way}": True, f"base_{teacher}": True}
    (case,) = choose(results(tmp_path, answers("1", **cells))).cases
    assert case.kind.name == "repaired"
    cells = {f"base_{way}": False, f"base_{teacher}": True}
    (case,) = choose(results(tmp_path, answers("1", **cells))).cases
    assert case.kind.name == "only step by step"


def test_a_student_that_descends_is_beside_the_base_that_does(tmp_path: Path) -> None:
    cells = {"base_descent": True, "student_descent": False}
    (case,) = choose(results(tmp_path, answers("1", **cells))).cases
    assert case.kind.name == "broken"


def test_the_student_is_shown_as_it_learned_to_answer(tmp_path: Path) -> None:
    rows = answers("1", base_joint=True, student_joint=False, base_open=False, student_open=True)
    found = results(tmp_path, rows)
    assert choose(found).cases[0].kind.name == "broken"
    learned = RunConfig.model_construct(distill=DistillSpec(formats=("open",)))
    found = Evaluation(found.cells, predictions=found.predictions, config=learned)
    assert choose(found).cases[0].kind.name == "repaired"


def test_the_choice_does_not_depend_on_the_order_of_the_rows(tmp_path: Path) -> None:
    rows = prediction_rows({"a": ["r", "x", "a"], "b": ["r", "y", "b"]}, ("base", "student"), 80)
    shuffled = list(rows)
    random.Random(1).shuffle(shuffled)
    first, second = (choose(results(tmp_path, each), limit=12) for each in (rows, shuffled))
    assert [case.sample_id for case in first.cases] == [case.sample_id for case in second.cases]
    assert first.cases == second.cases
    other = choose(results(tmp_path, rows), limit=12, seed=1)
    assert {case.sample_id for case in other.cases} != {case.sample_id for case in first.cases}


def test_no_kind_and_no_dataset_crowds_out_another(tmp_path: Path) -> None:
    rows = []
    for index in range(100):
        rows += answers(
            f"{index:03d}", base_joint=False, student_joint=index > 2, base_conditioned=True
        )
    rows += answers("x", "food", base_joint=True, student_joint=False, base_conditioned=True)
    gallery = choose(results(tmp_path, rows), limit=8)
    kinds = Counter((case.dataset, case.kind.name) for case in gallery.cases)
    assert kinds == {("birds", "missed"): 3, ("birds", "repaired"): 4, ("food", "broken"): 1}
    counts = {kind.name: count for kind, count in gallery.counts}
    assert counts == {"repaired": 97, "broken": 1, "missed": 3}  # of all, not of those shown


def test_a_sample_that_one_role_did_not_answer_is_no_case(tmp_path: Path) -> None:
    rows = answers("1", base_joint=False, student_joint=True, base_conditioned=True)
    rows += answers("2", base_joint=False, student_joint=True)
    assert [case.sample_id for case in choose(results(tmp_path, rows)).cases] == ["1"]


def test_paths_are_in_reading_order_level_by_level(tmp_path: Path) -> None:
    rows = prediction_rows({"a": ["r", "x%", "a/b"], "b": ["r", "y", "b"]}, ("student", "base"), 4)
    case = choose(results(tmp_path, rows[::-1])).cases[0]
    models = ("base", "student")
    assert [(path.model, path.paradigm) for path in case.paths] == [
        (model, paradigm) for model in models for paradigm in PARADIGMS
    ]
    ranks = [[level.rank for level in path.levels] for path in case.paths]
    assert ranks == [["order", "species"]] * 6
    assert list(case.truth) in (["x%", "a/b"], ["y", "b"])


def test_unparsed_levels_are_neither_right_nor_wrong(tmp_path: Path) -> None:
    rows = answers("1", base_joint=None, student_joint=True, base_conditioned=True)
    below = [answer | {"level": 2, "prediction": WRONG} for answer in rows]
    case = choose(results(tmp_path, rows + below)).cases[0]
    assert [level.state for level in case.paths[0].levels] == ["unparsed", "wrong"]
    assert [level.name for level in case.paths[0].levels] == ["", "b"]
    assert [level.state for level in case.paths[2].levels] == ["right", "wrong"]
    assert list(case.truth) == ["a", "a"]
    assert case.kind.name == "teacher wrong"
