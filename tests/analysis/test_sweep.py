"""Which students a sweep has."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from sekd.analysis.sweep import students_of
from sekd.config import DatasetSpec, RunConfig, SweepSpec, load_config


def with_sweep(config: RunConfig, **settings: object) -> RunConfig:
    return config.model_copy(update={"sweep": SweepSpec.model_validate(settings, strict=False)})


def test_a_variant_changes_what_it_names_and_nothing_else(config: RunConfig) -> None:
    variants = {"small": {"lora": {"rank": 2}, "epochs": 0.5}, "full": {}}
    small, full = students_of(with_sweep(config, variants=variants))
    assert full.config.distill == config.distill
    assert (small.config.distill.lora.rank, small.config.distill.epochs) == (2, 0.5)
    assert small.config.distill.lora.alpha == config.distill.lora.alpha
    assert small.config.elicit == config.elicit


def test_names_have_a_seed_where_there_are_several(config: RunConfig) -> None:
    variants = {"a": {}, "b": {"seed": 7}}
    names = [each.name for each in students_of(with_sweep(config, variants=variants))]
    assert names == ["a", "b"]
    one = students_of(with_sweep(config, variants=variants, seeds=(5,)))
    assert [(each.name, each.config.distill.seed) for each in one] == [("a", 5), ("b", 5)]
    two = students_of(with_sweep(config, variants=variants, seeds=(5, 6)))
    assert [each.name for each in two] == ["a.s5", "a.s6", "b.s5", "b.s6"]
    assert [each.config.distill.seed for each in two] == [5, 6, 5, 6]


def test_the_truth_is_left_out_where_it_is_not_known(
    config: RunConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train = config.data["train"]
    assert train.images is not None
    first, *others = sorted(train.images.glob("*/*.png"))
    lines = [f"{first},", *(f"{path},{path.parent.name}" for path in others)]
    table = tmp_path / "train.csv"
    table.write_text("\n".join(["image,label", *lines]), encoding="utf-8")
    unlabelled: DatasetSpec = train.model_copy(update={"images": None, "table": table})
    children: DatasetSpec = train.model_copy(update={"options": "children"})
    expected = {
        "": train,
        "sweep: truth is left out: 1 of 30 samples of train have no label": unlabelled,
        "sweep: truth is left out: data.train.options: children takes": children,
    }
    logging.getLogger("sekd").propagate = True
    for notice, dataset in expected.items():
        caplog.clear()
        with caplog.at_level(logging.INFO, "sekd"):
            found = students_of(config.model_copy(update={"data": {"train": dataset}}))
        names = [each.variant for each in found]
        assert names == ["hard", "hard_soft", "full", "text", *([] if notice else ["truth"])]
        assert notice in caplog.text


def test_a_variant_that_does_not_go_with_the_config_is_left_out(
    config_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody asked for it, so the config is none the worse for it."""
    config = load_config(config_file, ["distill.losses={hard: 0, format: 0}"])
    with caplog.at_level(logging.INFO, logger="sekd"):
        names = [student.name for student in students_of(config)]
    assert names == ["hard_soft", "full", "text", "truth"]
    assert "sweep: hard is left out, for this config: " in caplog.text
