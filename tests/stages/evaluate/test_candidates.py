"""Every candidate sees images as its adapter was trained to, unless the config says otherwise."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from sekd.config import EvaluatedModel, RunConfig
from sekd.errors import ConfigError
from sekd.models.adapters import write_processor_args
from sekd.stages.evaluate.candidates import Candidate, candidates_of

KEPT = {"size": {"longest_edge": 56}, "do_image_splitting": False}


@pytest.fixture
def student(adapter: Path, tmp_path: Path) -> Path:
    """An adapter that was trained with processor arguments of its own."""
    copy = Path(shutil.copytree(adapter, tmp_path / "student"))
    write_processor_args(copy, KEPT)
    return copy


def candidate(config: RunConfig, student: Path | None = None, **model: Any) -> Candidate:
    """Return the last candidate: the student, or the other model that is given."""
    models = {"other": EvaluatedModel(**model)} if model else {}
    evaluate = config.evaluate.model_copy(update={"models": models})
    return candidates_of(config.model_copy(update={"evaluate": evaluate}), student)[-1]


def test_the_student_has_its_own_arguments_and_the_base_those_of_the_model(
    config: RunConfig, student: Path
) -> None:
    base, own = candidates_of(config, student)
    assert (base.spec, own.spec.processor_args) == (config.model, KEPT)
    assert base.fields["model"] != own.fields["model"]


def test_a_student_without_arguments_of_its_own_is_loaded_as_the_base(
    config: RunConfig, adapter: Path
) -> None:
    assert candidate(config, adapter).spec == config.model


@pytest.mark.parametrize("with_path", [False, True])
def test_an_adapter_of_another_run_brings_its_arguments(
    config: RunConfig, student: Path, with_path: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path = {"path": config.model.path, "dtype": "float32"} if with_path else {}
    assert candidate(config, adapter=student, **path).spec.processor_args == KEPT
    assert "trained with" not in caplog.text


@pytest.mark.parametrize("with_path", [False, True])
def test_overriding_them_is_warned_of(
    config: RunConfig, student: Path, with_path: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path = {"path": config.model.path, "dtype": "float32"} if with_path else {}
    args = {"size": {"longest_edge": 112}}
    used = candidate(config, adapter=student, processor_args=args, **path).spec.processor_args
    assert used == KEPT | args
    assert "evaluate.models.other.processor_args: the adapter was trained with" in caplog.text


def test_the_same_arguments_are_no_override(
    config: RunConfig, student: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert candidate(config, adapter=student, processor_args=KEPT).spec.processor_args == KEPT
    assert "trained with" not in caplog.text


def test_arguments_that_were_damaged_are_refused(config: RunConfig, student: Path) -> None:
    (student / "adapter_processor.json").write_text('{"processor_args": 7}', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"adapter_processor\.json: 'processor_args' is no JSON"):
        candidate(config, adapter=student)
