"""A stage's fingerprint holds every setting and file that its numbers depend on, and no setting of
how it is carried out."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel

from sekd import engines
from sekd.config import DatasetSpec, ModelSpec, RunConfig, SimilarSpec
from sekd.data.image_hashes import ImageHashes
from sekd.data.samples import Dataset
from sekd.errors import ConfigError
from sekd.io.hashing import digest
from sekd.models import loading
from sekd.pipeline.inputs import SampleInputs
from sekd.stages import fingerprints as stage_fingerprints
from sekd.stages.distill import train as training
from sekd.stages.distill.train import distill_spec
from sekd.stages.elicit import answers
from sekd.stages.elicit.answers import answers_fields, answers_spec
from sekd.stages.elicit.states import states_fields, states_spec
from sekd.stages.evaluate.candidates import Candidate
from sekd.stages.evaluate.cells import EvaluationCell, cell_fields
from sekd.stages.fingerprints import dataset_fields, model_fields

SPECS: dict[str, Callable[[RunConfig], Any]] = {
    "answers": answers_spec,
    "states": states_spec,
    "distill": distill_spec,
}
"""The settings of each stage; every stage depends on the stages before it."""

FIRST_USED = {
    f"elicit.{name}": "states" for name in ("top_k", "layers", "states_engine", "state_dtype")
}
"""The first stage whose numbers a setting changes, where that is not the first of its section."""

NOT_IN = {
    *("elicit.dataset", "data.similar"),
    *("elicit.max_quarantined", "elicit.parity_limit", "elicit.limit"),
    *("data.taxonomy", "data.level_names", "data.leaf_names", "data.aliases", "data.unmatched"),
    *("data.images", "data.table", "data.classes", "data.layout", "data.split", "data.downloads"),
    *("data.image_column", "data.leaf_column", "data.id_column", "data.image_root"),
    *("data.image_prefix", "data.labels", "data.min_confidence"),
}
"""A dataset is identified by its content, not by its name or its files: the taxonomy has a digest,
and each sample counts in the key of its shard. Its model of likeness counts only where it draws the
options. Limits of what is acceptable change no number."""


NAMED: dict[str, Any] = {"wording": "paper", "similar": SimilarSpec(model="sekd/tiny_model")}
"""Other values of settings whose content counts, so that it must be there."""


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
    """Yield the path of every setting below ``part``, and a function that changes it."""
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
            new = other(value, field.annotation) if name not in NAMED else NAMED[name]
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


def test_every_setting_counts_except_those_of_the_runtime(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "adapter_identity", lambda directory, _: str(directory))
    monkeypatch.setattr(training, "adapter_identity", lambda directory, _: str(directory))
    monkeypatch.setattr(training, "default_names", lambda _: LAYERS)
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
    """A config whose files a test may change."""
    spec = config.data["train"]
    assert spec.images is not None
    shutil.copytree(spec.images, tmp_path / "images")
    shutil.copy(spec.taxonomy, tmp_path / "taxonomy.json")
    shutil.copytree(config.model.path, tmp_path / "model")
    dataset: DatasetSpec = spec.model_copy(
        update={"images": tmp_path / "images", "taxonomy": tmp_path / "taxonomy.json"}
    )
    model: ModelSpec = config.model.model_copy(update={"path": str(tmp_path / "model")})
    return config.model_copy(update={"data": {"train": dataset}, "model": model})


def fingerprints(config: RunConfig) -> tuple[str, str, str]:
    """The fingerprints of three stages, each with the keys of the shards that it asks for."""
    dataset = Dataset.load("train", config.data["train"])
    images = ImageHashes(dataset.samples)
    images.compute(lambda _: None)
    keys = [shard.key for shard in SampleInputs.of(dataset, images, 100).select([]).new]
    first = digest(answers_fields(config, dataset))
    cell = EvaluationCell(Candidate("base", config.model), dataset, "conditioned")
    return (
        digest([first, keys]),
        digest([states_fields(config, first), keys]),
        digest([cell_fields(config, cell), keys]),
    )


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" ")


CONTENT: dict[str, Callable[[Path, pytest.MonkeyPatch], None]] = {
    "an image": lambda folder, _: append(next(folder.glob("images/*/*.png"))),
    "the number of images": lambda folder, _: next(folder.glob("images/*/*.png")).unlink(),
    "the taxonomy": lambda folder, _: rewrite(folder / "taxonomy.json", "dulolon", "beasts"),
    "the chat template": lambda folder, _: append(folder / "model/chat_template.jinja"),
    "the weights": lambda folder, _: append(folder / "model/model.safetensors"),
    "the processor": lambda folder, _: append(folder / "model/processor_config.json"),
    "the prompt version": lambda _, patch: patch.setattr(stage_fingerprints, "PROMPT_VERSION", 99),
    "the engine": lambda _, patch: patch.setattr(
        engines.metadata, "version", lambda _: "99", raising=True
    ),
}


@pytest.mark.parametrize("content", CONTENT)
def test_changed_content_changes_the_fingerprint(
    copied: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    before = fingerprints(copied)
    assert fingerprints(copied) == before
    CONTENT[content](tmp_path, monkeypatch)
    assert not set(fingerprints(copied)) & set(before)


def test_an_adapter_counts_by_its_content_and_not_by_its_path(
    config: RunConfig, adapter: Path, tmp_path: Path
) -> None:
    def with_adapters(teacher: Path | None, initial: Path | None) -> dict[str, str]:
        elicit = config.elicit.model_copy(update={"adapter": teacher})
        distill = config.distill.model_copy(update={"initial_adapter": initial})
        changed = config.model_copy(update={"elicit": elicit, "distill": distill})
        return {stage: digest(spec(changed)) for stage, spec in SPECS.items()}

    def differ(one: dict[str, str], other: dict[str, str]) -> list[str]:
        return [stage for stage in SPECS if one[stage] != other[stage]]

    elsewhere = shutil.copytree(adapter, tmp_path / "elsewhere")
    without, both = with_adapters(None, None), with_adapters(adapter, adapter)
    (elsewhere / "README.md").write_text("a card that somebody wrote", encoding="utf-8")
    assert with_adapters(elsewhere, elsewhere) == both
    settings = elsewhere / "adapter_config.json"
    settings.write_text(settings.read_text("utf-8") + "\n", encoding="utf-8")
    assert differ(with_adapters(elsewhere, None), with_adapters(adapter, None)) == list(SPECS)
    assert differ(with_adapters(None, elsewhere), with_adapters(None, adapter)) == ["distill"]
    assert differ(without, both) == list(SPECS)
    assert "adapter" not in answers_spec(config)["elicit"]  # fingerprints predate the setting
    with pytest.raises(ConfigError, match=r"^elicit.adapter: .*nowhere is no directory of a PEFT"):
        with_adapters(tmp_path / "nowhere", None)
    with pytest.raises(ConfigError, match=r"^distill.initial_adapter: .*nowhere is no directory"):
        with_adapters(None, tmp_path / "nowhere")


def test_the_version_of_a_stage_counts(copied: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprints(copied)
    monkeypatch.setattr(answers, "ANSWERS_VERSION", 99)
    after = fingerprints(copied)
    assert [a != b for a, b in zip(after, before, strict=True)] == [True, True, False]


LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
"""The layers that most models' adapters get by default."""

PINNED = {
    "model": "f8abdbe0753b0030ab7b5383bf5bbfc7af4f44bc9398f390b3e2b5995a060ae2",
    "dataset": "b4ace70c7072b95e58771c36ec759c8b99d57a3dc98b290a25064f67843dcd6c",
    "samples": "66dc35bec16efa838602d2a08411a25e815cd6038ee9dfd85bd5c70fc69aa2d8",
    "answers": "99a4ab204827bade8995177b8c57566e2d3dc1312706403c6d4f0cb82a46e6f5",
    "states": "940ca108d5af328e87652655c2cd26e33196a9472603fe63a3717385528f778a",
    "distill": "15bba02e6c6843baea3b37b31f915e3c694f4668fb8ded2128aeff676007144a",
    "joint cell": "c489793cd6be689c4ffde5e92ea64ae72f2237314738af07e5b9be2d0e2b0413",
    "shuffled cell": "b093efcc4449653d2838daae80270ea8e3b4700c1702daf6d461cf7d4ccd199b",
}
"""SHA-256 of each stage's fields, written as JSON in their order, and of a shard's key."""


def test_fields_and_their_order_are_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed digest means that every finished run of a user would be run again."""
    chat = SimpleNamespace(template_source="{{ messages }}", added_around_turns={})
    monkeypatch.setattr(stage_fingerprints, "load_chat", lambda *_, **__: chat)
    monkeypatch.setattr(loading, "model_identity", lambda _: {"weights": "1"})
    monkeypatch.setattr(training, "default_names", lambda _: LAYERS)
    monkeypatch.setattr(engines.metadata, "version", lambda _: "1.0")
    monkeypatch.chdir(tmp_path)  # so that paths in the config are the same everywhere
    birds = {"gull": ["animal", "bird", "gull"], "pike": ["animal", "fish", "pike"]}
    Path("birds.json").write_text(json.dumps(birds), encoding="utf-8")
    Path("birds.csv").write_text("image,label\n1.png,gull\n2.png,pike\n", encoding="utf-8")
    train = {
        "table": "birds.csv",
        "taxonomy": "birds.json",
        "level_names": ["kingdom", "class", "species"],
    }
    config = RunConfig.model_validate_json(
        json.dumps({"run_dir": "run", "model": {"path": "model"}, "data": {"train": train}})
    )
    dataset = Dataset.load("train", config.data["train"])
    images = ["a" * 64, None]
    candidate = Candidate("base", config.model)
    cells = {
        "joint cell": EvaluationCell(candidate, dataset, "joint"),
        "shuffled cell": EvaluationCell(candidate, dataset, "conditioned", "shuffled"),
    }
    fields = {
        "model": model_fields(config.model),
        "dataset": dataset_fields(dataset),
        "samples": SampleInputs.of(dataset, images, 2).select([]).new[0].key,
        "answers": answers_fields(config, dataset),
        "states": states_fields(config, "fingerprint"),
        "distill": distill_spec(config),
    }
    for name, cell in cells.items():
        fields[name] = cell_fields(config, cell)
    in_order = {name: json.dumps(value).encode() for name, value in fields.items()}
    digests = {name: hashlib.sha256(text).hexdigest() for name, text in in_order.items()}
    assert digests == PINNED


def test_layers_that_are_adapted_by_default_count_as_if_they_were_named(config: RunConfig) -> None:
    """A finished adapter whose config named the usual layers is still that of the default."""
    lora = config.distill.lora.model_copy(update={"target_modules": tuple(LAYERS)})
    named = config.model_copy(update={"distill": config.distill.model_copy(update={"lora": lora})})
    assert config.distill.lora.target_modules is None
    assert distill_spec(config) == distill_spec(named)
