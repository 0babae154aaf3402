"""The library: typed results, the same files as the commands, and examples that run."""

from __future__ import annotations

import doctest
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from command_line import sekd

from sekd import api
from sekd.data.toyworld import write_world
from sekd.errors import ConfigError
from sekd.stages.benchmark.lmms_eval import LmmsEval

RECORDED = Path(__file__).parent / "benchmark" / "recorded" / "base"
FUNCTIONS = [getattr(api, name) for name in api.__all__ if name not in ("RunConfig", "load_config")]
SETTINGS: dict[str, Any] = {
    "run_dir": "runs/birds",
    "distill": {
        "epochs": 1.0,  # a single step would have the rate of its warm-up: none
        "global_batch": 8,
        "learning_rate": 0.001,
        "lora": {"rank": 4, "alpha": 8, "dropout": 0.0},
        "runtime": {"batch_size": 4, "logging_steps": 1},
    },
    "evaluate": {
        "datasets": ["seen"],
        "paradigms": ["joint"],
        "controls": [],
        "limit": 4,
        "num_bootstrap": 10,
    },
    "sweep": {"variants": {"soft-only": {"losses": {"hard": 0.0}}}},
}


class FakeLmmsEval:
    """Gives the figures that lmms-eval once wrote, for any task."""

    versions: ClassVar = {"lmms_eval": "0.7.3"}

    def run(self, _task: str, _model: object, _spec: object, *rest: Any) -> None:
        _model_spec, folder, _on_progress = rest
        shutil.copytree(RECORDED, folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the examples name: a config, and a file of predictions with its taxonomy."""
    folder = tmp_path_factory.mktemp("library")
    write_world(folder / "world", num_train=12, num_test=4, seed=0)
    content = yaml.safe_load((folder / "world" / "config.yaml").read_text("utf-8")) | SETTINGS
    (folder / "my.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    paths = {"gull": ["animal", "bird", "gull"], "pike": ["animal", "fish", "pike"]}
    (folder / "birds.json").write_text(json.dumps(paths), encoding="utf-8")
    rows = "a,1,bird,bird\na,2,gull,gull\nb,1,fish,bird\nb,2,pike,pike\n"
    (folder / "mine.csv").write_text(f"sample_id,level,truth,prediction\n{rows}", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def finished(folder: Path) -> dict[str, Any]:
    """What the three functions of the pipeline return, by the function's name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return {
            "elicit": api.elicit("my.yaml"),
            "distill": api.distill(Path("my.yaml")),
            "evaluate": api.evaluate(api.load_config("my.yaml")),
        }


def test_results_are_typed(finished: dict[str, Any], folder: Path) -> None:
    elicited, adapter = finished["elicit"], finished["distill"]
    assert (elicited.num_samples, elicited.num_quarantined) == (12, 0)
    assert (folder / adapter / "adapter_model.safetensors").is_file()
    evaluation = finished["evaluate"]
    assert evaluation.models == ["base", "student"]
    assert evaluation.rate("seen", "student", "joint", "hca").value in (0, 25, 50, 75, 100)


def test_the_files_are_those_of_the_commands(finished: dict[str, Any], folder: Path) -> None:
    run = folder / "runs" / "birds"
    for name in finished:
        assert api.load_config(run / f"{name}.config.yaml") == api.load_config(folder / "my.yaml")
    written = json.loads((run / "metrics.json").read_text("utf-8"))
    assert written == json.loads(json.dumps(finished["evaluate"].to_json()))


def test_a_command_finds_what_the_library_did(
    finished: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    printed = sekd("evaluate", "my.yaml", "--json")
    assert json.loads(printed.stdout) == json.loads(json.dumps(finished["evaluate"].to_json()))
    assert sekd("status", "runs/birds").exit_code == 0


@pytest.mark.parametrize("function", [api, *FUNCTIONS], ids=lambda each: each.__name__)
def test_the_example_of_each_function_runs(
    function: Callable[..., Any],
    finished: dict[str, Any],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(LmmsEval, "find", lambda _python: FakeLmmsEval())
    examples = doctest.DocTestParser().get_examples(function.__doc__ or "")
    assert examples, f"{function.__name__} has no example"
    names = {"api": api}
    for example in examples:
        exec(example.source, names)


def test_a_score_says_what_it_counted(folder: Path) -> None:
    scored = api.score(folder / "mine.csv", folder / "birds.json", num_bootstrap=10)
    (card,) = scored.cards
    assert card.metrics.to_json()["hca"]["value"] == 50
    assert scored.warnings == []


def test_a_wrong_config_is_an_exception(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such config file"):
        api.elicit(tmp_path / "none.yaml")
