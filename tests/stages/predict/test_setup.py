"""What predicts follows from files, and the log says what and why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError
from sekd.models.prompts import PROMPT_VERSION
from sekd.models.usage import Usage
from sekd.stages.predict.request import PredictionRequest
from sekd.stages.predict.setup import set_up


def write_usage(folder: Path, world: Path, tiny_model: Path, *formats: str) -> None:
    """Write beside an adapter what a training would write."""
    taxonomy = Taxonomy.load(world / "seen" / "taxonomy.json")
    usage = {
        "sekd": "0.1.0",
        "prompt_version": PROMPT_VERSION,
        "base_model": str(tiny_model),
        "revision": None,
        "dtype": "float32",
        "processor_args": {},
        "chat_template_args": {},
        "formats": formats,
        "answer": "letter",
        "subject": "beast",
        "pixel_limit": 1000,
        "taxonomy": taxonomy.digest(),
        "open_prompt": "",
    }
    (folder / "sekd_usage.json").write_text(json.dumps(usage), "utf-8")
    assert Usage.read(folder) is not None
    (folder / "taxonomy.json").write_bytes((world / "seen" / "taxonomy.json").read_bytes())
    wording = Path(__file__).parents[3] / "sekd" / "models" / "wordings.yaml"
    (folder / "wording.yaml").write_text(_standard(wording), "utf-8")


def _standard(wordings: Path) -> str:
    import yaml

    return yaml.safe_dump(yaml.safe_load(wordings.read_text("utf-8"))["standard"])


@pytest.fixture
def student(adapter: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "student"
    folder.mkdir()
    for file in adapter.iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.mark.parametrize("formats", [("quiz", "open"), ("quiz",)])
def test_an_adapter_knows_its_model_and_how_it_is_asked(
    student: Path,
    world: Path,
    tiny_model: Path,
    formats: tuple[str, ...],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="sekd")
    write_usage(student, world, tiny_model, *formats)
    spec = set_up(PredictionRequest(adapter=student))
    assert (spec.model.path, spec.model.dtype) == (str(tiny_model), "float32")
    assert (spec.dataset.subject, spec.dataset.pixel_limit) == ("beast", 1000)
    assert spec.teacher.answer == "letter"
    assert spec.taxonomy.digest() == Taxonomy.load(world / "seen" / "taxonomy.json").digest()
    assert spec.is_stepwise == ("open" not in formats)
    way = "in a single pass (open naming), which the model learned"
    assert (way in caplog.text) == ("open" in formats)
    assert set_up(PredictionRequest(adapter=student, is_stepwise=True)).is_stepwise
    other = world / "unseen" / "taxonomy.json"
    caplog.clear()
    set_up(PredictionRequest(adapter=student, taxonomy=other))
    assert f"{other} is another taxonomy than the one that was taught" in caplog.text


def test_a_model_needs_a_taxonomy_and_takes_ranks(world: Path, tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match="no taxonomy: name its file"):
        set_up(PredictionRequest(model=str(tiny_model)))
    taxonomy = world / "seen" / "taxonomy.json"
    ranks = ("root", "order", "family", "genus", "species")
    request = PredictionRequest(
        model=str(tiny_model),
        taxonomy=taxonomy,
        level_names=ranks,
        overrides=["evaluate.runtime.batch_size=3", "data.images.subject=bird"],
    )
    spec = set_up(request)
    assert spec.is_stepwise
    assert list(spec.taxonomy.ranks) == list(ranks[1:])
    assert (spec.dataset.subject, spec.evaluate.runtime.batch_size) == ("bird", 3)
    with pytest.raises(ConfigError, match="no model: name a run"):
        set_up(PredictionRequest(taxonomy=taxonomy))


def test_a_run_gives_everything_but_what_is_said(
    world: Path, tiny_model: Path, tmp_path: Path
) -> None:
    config = world / "config.yaml"
    spec = set_up(PredictionRequest(run=config, num_paths=3))
    assert (spec.model.path, spec.adapter) == (str(tiny_model), None)
    assert spec.descent.beam == 3
    other = world / "unseen" / "taxonomy.json"
    ranks = ("root", "a", "b", "c", "d")
    spec = set_up(PredictionRequest(run=config, taxonomy=other, level_names=ranks))
    assert list(spec.taxonomy.ranks) == list(ranks[1:])
    with pytest.raises(ConfigError, match="no run of sekd and no config"):
        set_up(PredictionRequest(run=tmp_path))


def test_wrong_ranks_and_settings_are_named(world: Path) -> None:
    config = world / "config.yaml"
    with pytest.raises(ConfigError, match=r"--rank famly: no rank of .*; did you mean family"):
        set_up(PredictionRequest(run=config, last_rank="famly"))
    with pytest.raises(ConfigError, match=r"unknown key descent\.max_option"):
        set_up(PredictionRequest(run=config, overrides=["descent.max_option=3"]))
