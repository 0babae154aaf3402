"""sekd benchmark as a user runs it: over a stand-in for lmms-eval, and once over the real one."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from sekd.cli import main
from sekd.config import RunConfig
from sekd.data.images import read_image
from sekd.data.samples import Dataset, questions_of
from sekd.engines import Prompt, Write, open_engine, write
from sekd.io.folders import publish_folder
from sekd.models.chat import Chat
from sekd.models.loading import load_model, load_processor
from sekd.pipeline.stage import open_directory
from sekd.stages.benchmark import run as benchmark
from sekd.stages.distill.adapter import add_adapter
from sekd.stages.distill.train import distill_spec

BENCHMARK = Path(__file__).parents[1] / "benchmark"
OWN_VENV = Path(__file__).parents[2] / ".venv-lmms" / "bin" / "python"
MAX_NEW_TOKENS = 48  # of the drawn tasks


def sekd(*args: object) -> Result:
    return CliRunner().invoke(main, ["benchmark", *(str(arg) for arg in args)])


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The python of an environment with a stand-in for lmms-eval."""
    path = tmp_path / "python"
    path.write_text(f"#!{sys.executable}\n" + (BENCHMARK / "fake_lmms_eval.py").read_text("utf-8"))
    path.chmod(0o755)
    return path


@pytest.fixture
def adapter(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished student: an adapter of random weights, where sekd distill leaves its own."""
    torch.manual_seed(0)
    model = add_adapter(load_model(config.model), config.distill)
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.1)  # the answers must differ
    directory = open_directory(config.run_dir / "distill", {"spec": distill_spec(config)})
    model.save_pretrained(str(directory / "adapter"))
    path = publish_folder(directory, directory, "adapter")
    monkeypatch.setattr(benchmark, "finished_adapter", lambda _: path)  # nothing was elicited
    return path


def evaluations(run_dir: Path) -> dict[str, int]:
    """Path -> time of every result in a run."""
    found = (run_dir / "benchmark").glob("*/*/results/results.json")
    return {str(path.relative_to(run_dir)): path.stat().st_mtime_ns for path in found}


def test_base_and_student_are_compared(
    config: RunConfig, config_file: Path, adapter: Path, python: Path
) -> None:
    run_dir = Path(str(config.run_dir))
    options = ("--set", f"benchmark.python={python}")
    result = sekd(config_file, "--tasks", "vqa,gqa", "--json", *options)
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert content == json.loads((run_dir / "benchmark.json").read_text())
    assert [row["task"] for row in content["rows"]] == ["vqa", "gqa"]
    for row in content["rows"]:
        assert (row["base"], row["student"]) == (pytest.approx(0.5), pytest.approx(4 / 6))
        assert row["low"] <= row["change"] <= row["high"]
    assert "| vqa | acc | 6 | 0.5 | 0.6667 | +0.167 |" in (run_dir / "benchmark.md").read_text()
    assert (run_dir / "benchmark.config.yaml").is_file()

    before = evaluations(run_dir)
    assert len(before) == 4
    again = sekd(config_file, "--tasks", "gqa,vqa", *options)
    assert again.exit_code == 0
    assert "started" not in again.stderr
    assert "+0.167" in again.stdout
    assert evaluations(run_dir) == before

    sekd(config_file, "--tasks", "vqa,ai2d", *options)
    new = set(evaluations(run_dir)) - set(before)
    assert {path.split("/")[1] for path in new} == {"ai2d-base", "ai2d-student"}
    limited = sekd(config_file, "--tasks", "vqa", "--limit", "3", *options)
    assert "spec.benchmark.limit: null -> 3" in limited.stderr
    assert len(evaluations(run_dir)) == 8


def test_a_note_beside_an_adapter_evaluates_nothing_again(
    config_file: Path, adapter: Path, python: Path
) -> None:
    options = (config_file, "--tasks", "vqa", "--set", f"benchmark.python={python}")
    sekd(*options)
    (adapter / "README.md").write_text("a note, which changes no number")
    assert "started" not in sekd(*options).stderr


def test_another_adapter_is_evaluated_and_the_base_is_not_again(
    config: RunConfig, config_file: Path, adapter: Path, python: Path
) -> None:
    options = (config_file, "--tasks", "vqa,gqa", "--set", f"benchmark.python={python}")
    assert sekd(*options).exit_code == 0
    run_dir = Path(str(config.run_dir))
    before = evaluations(run_dir)
    weights = load_file(adapter / "adapter_model.safetensors")
    changed = {name: 2 * weight for name, weight in weights.items()}
    save_file(changed, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    publish_folder(adapter.parent, adapter.parent, "adapter")  # as another training leaves it
    assert sekd(*options).exit_code == 0
    after = evaluations(run_dir)
    assert {path: after[path] for path in before} == before
    new = {path.split("/")[1] for path in after.keys() - before.keys()}
    assert new == {"vqa-student", "gqa-student"}


def test_without_a_student_the_base_is_measured(config_file: Path, python: Path) -> None:
    result = sekd(config_file, "--tasks", "vqa", "--json", "--set", f"benchmark.python={python}")
    assert result.exit_code == 0, result.output
    assert "the base alone" in result.stderr
    (row,) = json.loads(result.stdout)["rows"]
    assert (row["base"], row["student"]) == (0.5, None)


def test_a_failed_task_does_not_stop_the_others(
    config: RunConfig, config_file: Path, python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (config_file, "--tasks", "vqa,gqa", "--set", f"benchmark.python={python}")
    monkeypatch.setenv("FAKE_FAILS", "vqa")
    result = sekd(*options)
    assert result.exit_code == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith(
        "sekd: 1 of 2 evaluations failed (vqa, base: lmms-eval wrote no results:"
    )
    assert "RuntimeError: no such data" in last
    log = Path(str(config.run_dir)) / "sekd.log"
    assert str(log) in last
    assert "Traceback (most recent call last)" in log.read_text()
    assert "gqa" in result.stdout
    monkeypatch.delenv("FAKE_FAILS")
    again = sekd(*options)
    assert again.exit_code == 0
    assert "vqa, base: started" in again.stderr
    assert "gqa, base: started" not in again.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "benchmark.tasks is empty; give --tasks"),
        (("--tasks", "mm*"), "benchmark.tasks.0: String should match pattern"),
        (("--tasks", "vqa", "--limit", "0"), "benchmark.limit: Input should be greater than 0"),
        (("--tasks", "vqa", "--set", "benchmark.python=/no/python"), "not a working python"),
        (
            ("--tasks", "vqa", "--set", "benchmark.include_path=/no/tasks"),
            "benchmark.include_path /no/tasks: no such folder",
        ),
    ],
)
def test_what_the_user_must_put_right(
    config_file: Path, options: tuple[str, ...], message: str
) -> None:
    result = sekd(config_file, *options)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert message in result.stderr


# The real lmms-eval, in the environment that `make .venv-lmms` makes.


@pytest.fixture(scope="session")
def lmms_python() -> Path:
    python = Path(os.environ.get("SEKD_LMMS_PYTHON", OWN_VENV))
    if not python.exists():
        reason = f"no lmms-eval at {python} (make .venv-lmms, or SEKD_LMMS_PYTHON)"
        if os.environ.get("SEKD_REQUIRE_LMMS"):
            pytest.fail(reason)
        pytest.skip(reason)
    return python


@pytest.fixture
def tasks(config_file: Path, tmp_path: Path) -> Path:
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("draw_tasks", BENCHMARK / "draw_tasks.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    module.write_tasks(config_file, tmp_path / "tasks")
    return tmp_path / "tasks"


def own_replies(config: RunConfig, adapter: Path | None) -> list[str]:
    """What sekd's own engine replies to the questions of `drawn_levels`, one by one."""
    dataset = Dataset.load("unseen", config.data["unseen"])
    chat = Chat(load_processor(config.model), subject="organism")
    engine = open_engine(
        "transformers", config.model, chat, adapter=adapter, batch_size=1, engine_args={}
    )
    replies = []
    for number, sample in enumerate(dataset.samples):
        questions = questions_of(dataset, sample)
        assert questions is not None
        turn = chat.first_turn(questions[number % len(questions)], [])
        prompt = Prompt(turn.token_ids, read_image(sample.image), sample.id)
        replies += engine.run([write(Write(prompt, MAX_NEW_TOKENS, chat.end_ids[0]))])
    return [chat.decode(reply.token_ids) for reply in replies]


def test_the_real_lmms_eval(
    config: RunConfig, config_file: Path, adapter: Path, tasks: Path, lmms_python: Path
) -> None:
    run_dir = Path(str(config.run_dir))
    options = (
        *("--tasks", "drawn_levels", "--set", f"benchmark.python={lmms_python}"),
        *("--set", f"benchmark.include_path={tasks}", "--set", "benchmark.batch_size=5"),
    )
    result = sekd(config_file, "--json", *options)
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)["rows"]
    assert (row["metric"], row["num_samples"], row["no_interval"]) == ("accuracy", 12, None)
    assert row["low"] <= row["change"] <= row["high"]
    assert row["base"] > 0

    replies: dict[str, list[str]] = {}
    for model, its_adapter in (("base", None), ("student", adapter)):
        (path,) = run_dir.glob(f"benchmark/drawn_levels-{model}/*/results/samples-*.jsonl")
        logged = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        by_id = {sample["doc_id"]: sample["filtered_resps"] for sample in logged}
        replies[model] = [squeezed(by_id[number]) for number in range(12)]
        assert replies[model] == [squeezed(text) for text in own_replies(config, its_adapter)]
    assert replies["base"] != replies["student"]

    again = sekd(config_file, *options)
    assert again.exit_code == 0
    assert "started" not in again.stderr
    assert "drawn_levels" in again.stdout


def squeezed(text: str) -> str:
    """Without spaces, which the two decode differently."""
    return "".join(text.split())


def test_an_unknown_task_of_the_real_lmms_eval(config_file: Path, lmms_python: Path) -> None:
    result = sekd(
        config_file, "--tasks", "no_such_task", "--set", f"benchmark.python={lmms_python}"
    )
    assert result.exit_code == 1
    assert "Tasks not found: no_such_task" in result.stderr.splitlines()[-1]
