"""What is in a stage's fingerprint: every setting and file that its numbers follow from, and no
setting of how it is carried out."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel

from sekd import engines
from sekd.config import DatasetSpec, ModelSpec, RunConfig
from sekd.data.image_hashes import ImageHashes
from sekd.data.samples import Dataset
from sekd.errors import ConfigError
from sekd.io.hashing import digest
from sekd.models import loading
from sekd.stages import fingerprints as stage_fields
from sekd.stages.distill.train import distill_spec
from sekd.stages.elicit import answers
from sekd.stages.elicit.answers import answers_fields, answers_spec
from sekd.stages.elicit.states import states_fields, states_spec
from sekd.stages.evaluate.candidates import Candidate
from sekd.stages.evaluate.cells import EvaluationCell, cell_fields

SPECS: dict[str, Callable[[RunConfig], Any]] = {
    "answers": answers_spec,
    "states": states_spec,
    "distill": distill_spec,
}
"""Of each stage, in the order in which one follows from another."""

FIRST_USED = {
    f"elicit.{name}": "states"
    for name in ("top_k", "layers", "states_engine", "state_dtype", "parity_limit")
}
"""The stage whose numbers a setting changes first, if it is not the first one of its section."""

NOT_IN = {"elicit.dataset"}
"""A dataset goes in by what it is, not by what it is called."""


def other(value: Any, annotation: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        choices = get_args(annotation) if get_origin(annotation) is Literal else ()
        return next((choice for choice in choices if choice != value), value + "x")
    if isinstance(value, tuple):
        return (*value, "x")
    if isinstance(value, dict):
        return value | {"x": 1}
    if isinstance(value, Path):
        return value / "x"
    assert value is None
    return 0.5


def changes(part: BaseModel, place: str) -> Iterator[tuple[str, Callable[[BaseModel], BaseModel]]]:
    """Path of every setting below, and what changes it."""
    for name, field in type(part).model_fields.items():
        value = getattr(part, name)
        if isinstance(value, BaseModel):
            for path, change in changes(value, f"{place}.{name}"):
                yield (
                    path,
                    lambda whole, name=name, change=change: whole.model_copy(
                        update={name: change(getattr(whole, name))}
                    ),
                )
        else:
            new = other(value, field.annotation)
            yield (
                f"{place}.{name}",
                lambda whole, name=name, new=new: whole.model_copy(update={name: new}),
            )


def changed_configs(config: RunConfig) -> Iterator[tuple[str, RunConfig]]:
    sections: list[tuple[str, BaseModel]] = [
        ("model", config.model),
        ("elicit", config.elicit),
        ("distill", config.distill),
    ]
    for section, part in sections:
        for path, change in changes(part, section):
            yield path, config.model_copy(update={section: change(part)})
    for path, change in changes(config.data["train"], "data"):
        yield (
            path,
            config.model_copy(
                update={"data": config.data | {"train": change(config.data["train"])}}
            ),
        )


def test_every_setting_is_in_and_no_setting_of_the_runtime(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "adapter_identity", lambda directory, _: str(directory))
    before = {stage: digest(spec(config)) for stage, spec in SPECS.items()}
    seen = set()
    for path, changed in changed_configs(config):
        section = path.split(".")[0]
        first = FIRST_USED.get(path, "distill" if section == "distill" else "answers")
        later = list(SPECS)[list(SPECS).index(first) :]
        if ".runtime." in path or path in NOT_IN:
            later = []
            changed = changed.model_copy(
                update={"data": config.data | {"trainx": config.data["train"]}}
            )
        after = {stage: digest(spec(changed)) for stage, spec in SPECS.items()}
        assert [stage for stage in SPECS if after[stage] != before[stage]] == later, path
        seen.add(path)
    assert {"model.dtype", "elicit.top_k", "elicit.runtime.workers", "data.num_options"} <= seen
    assert {"distill.losses.soft", "distill.lora.rank", "distill.runtime.save_steps"} <= seen


@pytest.fixture
def copied(config: RunConfig, tmp_path: Path) -> RunConfig:
    """The config over files of its own."""
    spec = config.data["train"]
    assert spec.images is not None
    shutil.copytree(spec.images, tmp_path / "images")
    shutil.copy(spec.taxonomy, tmp_path / "taxonomy.json")
    shutil.copytree(config.model.path, tmp_path / "model")
    own: DatasetSpec = spec.model_copy(
        update={"images": tmp_path / "images", "taxonomy": tmp_path / "taxonomy.json"}
    )
    model: ModelSpec = config.model.model_copy(update={"path": str(tmp_path / "model")})
    return config.model_copy(update={"data": {"train": own}, "model": model})


def fingerprints(config: RunConfig) -> tuple[str, str, str]:
    dataset = Dataset.load("train", config.data["train"])
    images = ImageHashes(dataset.samples)
    images.compute(lambda _: None)
    first = digest(answers_fields(config, dataset, images))
    return (
        first,
        digest(states_fields(config, first, [])),
        digest(
            cell_fields(
                config,
                EvaluationCell(Candidate("base", config.model), dataset, "conditioned"),
                answers.dataset_fields(dataset, images),
            )
        ),
    )


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" ")


CONTENT: dict[str, Callable[[Path, pytest.MonkeyPatch], None]] = {
    "an image": lambda at, _: append(next(at.glob("images/*/*.png"))),
    "an image less": lambda at, _: next(at.glob("images/*/*.png")).unlink(),
    "the taxonomy": lambda at, _: rewrite(at / "taxonomy.json", "dulolon", "beasts"),
    "the chat template": lambda at, _: append(at / "model/chat_template.jinja"),
    "the weights": lambda at, _: append(at / "model/model.safetensors"),
    "the processor": lambda at, _: append(at / "model/processor_config.json"),
    "our words": lambda _, patch: patch.setattr(stage_fields, "PROMPT_VERSION", 99),
    "the engine": lambda _, patch: patch.setattr(
        engines.metadata, "version", lambda _: "99", raising=True
    ),
}


@pytest.mark.parametrize("what", CONTENT)
def test_content_is_in(
    copied: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    before = fingerprints(copied)
    assert fingerprints(copied) == before
    CONTENT[what](tmp_path, monkeypatch)
    assert not set(fingerprints(copied)) & set(before)


def test_an_adapter_is_in_by_its_content_and_not_by_its_place(
    config: RunConfig, adapter: Path, tmp_path: Path
) -> None:
    def with_adapters(teacher: Path | None, begun: Path | None) -> dict[str, str]:
        elicit = config.elicit.model_copy(update={"adapter": teacher})
        distill = config.distill.model_copy(update={"initial_adapter": begun})
        changed = config.model_copy(update={"elicit": elicit, "distill": distill})
        return {stage: digest(spec(changed)) for stage, spec in SPECS.items()}

    def differ(one: dict[str, str], other: dict[str, str]) -> list[str]:
        return [stage for stage in SPECS if one[stage] != other[stage]]

    elsewhere = shutil.copytree(adapter, tmp_path / "elsewhere")
    without, both = with_adapters(None, None), with_adapters(adapter, adapter)
    (elsewhere / "README.md").write_text("a card that somebody wrote", encoding="utf-8")
    assert with_adapters(elsewhere, elsewhere) == both
    append(elsewhere / "adapter_model.safetensors")
    assert differ(with_adapters(elsewhere, None), with_adapters(adapter, None)) == list(SPECS)
    assert differ(with_adapters(None, elsewhere), with_adapters(None, adapter)) == ["distill"]
    assert differ(without, both) == list(SPECS)
    assert "adapter" not in answers_spec(config)["elicit"]  # what was made before there was one
    with pytest.raises(ConfigError, match=r"^elicit.adapter: .*nowhere is no directory of a PEFT"):
        with_adapters(tmp_path / "nowhere", None)
    with pytest.raises(ConfigError, match=r"^distill.initial_adapter: .*nowhere is no directory"):
        with_adapters(None, tmp_path / "nowhere")


def test_the_stages_own_version_is_in(copied: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprints(copied)
    monkeypatch.setattr(answers, "ANSWERS_VERSION", 99)
    after = fingerprints(copied)
    assert [a != b for a, b in zip(after, before, strict=True)] == [True, True, False]


def test_answers_made_again_make_the_states_stale(copied: RunConfig) -> None:
    one, same, two = (states_fields(copied, "print", [sha]) for sha in ("1", "1", "2"))
    assert digest(one) == digest(same) != digest(two)
