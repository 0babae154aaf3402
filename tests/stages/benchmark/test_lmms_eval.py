"""The process of lmms-eval: its arguments, its results, and what is left when it fails."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from sekd.analysis.benchmark import BenchmarkScores
from sekd.config import BenchmarkSpec, ModelSpec
from sekd.errors import ConfigError, ShardError
from sekd.stages.benchmark.lmms_eval import LmmsEval, arguments, last_error

BENCHMARK = Path(__file__).parents[2] / "benchmark"
KEY = ("vqa", "acc", "none")


@pytest.fixture
def python(tmp_path: Path) -> Path:
    path = tmp_path / "python"
    path.write_text(f"#!{sys.executable}\n" + (BENCHMARK / "fake_lmms_eval.py").read_text("utf-8"))
    path.chmod(0o755)
    return path


def run(python: Path, task: str, folder: Path, tell: Callable[[str], None]) -> None:
    spec, model = BenchmarkSpec(python=python), ModelSpec(path="tiny")
    LmmsEval.find(python).run(task, Path("model"), spec, model, folder, tell)


def test_results_and_samples_are_stored_in_one_folder(python: Path, tmp_path: Path) -> None:
    run(python, "vqa", tmp_path / "results", lambda _: None)
    names = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert names == ["results.json", "samples-vqa.jsonl"]
    assert BenchmarkScores.load(tmp_path / "results").figures == {KEY: 0.5}
    assert not list(tmp_path.glob("*.tmp"))


def test_missing_results_are_a_failure_also_with_exit_code_0(
    python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_FAILS", "vqa")
    told: list[str] = []
    with pytest.raises(ShardError) as error:
        run(python, "vqa", tmp_path / "results", told.append)
    assert str(error.value) == "lmms-eval wrote no results: RuntimeError: no such data"
    assert not (tmp_path / "results").exists()
    assert told == ["replies:   0%|          | 0/6 [00:00<?, ?it/s]"]
    monkeypatch.delenv("FAKE_FAILS")
    run(python, "vqa", tmp_path / "results", told.append)  # what the failed one left is no harm


def test_a_killed_process_is_a_failure(python: Path, tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="was killed by signal 6"):
        run(python, "killed", tmp_path / "results", lambda _: None)


PROGRAM = """
import sys
from pathlib import Path
from sekd.config import BenchmarkSpec, ModelSpec
from sekd.io.stop_signals import stop_signals_raise
from sekd.stages.benchmark.lmms_eval import LmmsEval

python, folder = map(Path, sys.argv[1:])
spec, model = BenchmarkSpec(python=python), ModelSpec(path="tiny")
with stop_signals_raise():
    LmmsEval.find(python).run(
        "hangs", Path("model"), spec, model, folder, lambda _: print("started", flush=True)
    )
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_no_process_is_left_however_sekd_ends(
    python: Path, tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-c", PROGRAM, str(python), str(tmp_path / "results")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, **pipes) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "started\n"
        wait_until(lambda: bool(running(f"worker of {python}")))
        program.send_signal(number)
    wait_until(lambda: not running(str(python)))


def test_an_interrupt_leaves_no_process_behind(python: Path, tmp_path: Path) -> None:
    def stop(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(python, "hangs", tmp_path / "results", stop)
    wait_until(lambda: not running(str(python)))


def wait_until(happens: Callable[[], bool]) -> None:
    """Wait for other processes: a new one has its name later, a killed one is reaped later."""
    deadline = time.monotonic() + 30
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def running(command: str) -> list[str]:
    lines = (path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if readable(path))
    return [line.decode() for line in lines if command in line.decode(errors="replace")]


def readable(path: Path) -> bool:
    try:
        return bool(path.read_bytes())
    except OSError:
        return False


def test_a_python_without_lmms_eval_says_how_to_get_it(tmp_path: Path) -> None:
    if importlib.util.find_spec("lmms_eval") is not None:
        pytest.skip("lmms-eval is installed beside these tests")
    with pytest.raises(ConfigError, match=r"no lmms-eval there.*pip install lmms-eval==0\.7\.3"):
        LmmsEval.find(None)
    with pytest.raises(ConfigError, match=r"nowhere: not a working python"):
        LmmsEval.find(tmp_path / "nowhere")


def test_a_package_that_is_too_new_is_refused_before_anything_runs(tmp_path: Path) -> None:
    def python_with(filelock: str) -> Path:
        script = tmp_path / f"python-{filelock}"
        versions = {"lmms_eval": "0.7.3", "torch": "2.13.0", "filelock": filelock}
        script.write_text(f"#!/bin/sh\necho '{json.dumps(versions)}'\n")
        script.chmod(0o755)
        return script

    found = LmmsEval.find(python_with("3.32.7"))
    assert dict(found.versions) == {"lmms_eval": "0.7.3", "torch": "2.13.0"}
    with pytest.raises(ConfigError, match=r"filelock 4\.3\.1 is newer than lmms-eval"):
        LmmsEval.find(python_with("4.3.1"))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            ["Traceback (most recent call last):", "ValueError: bad", "  1%|  | 0/6"],
            "ValueError: b",
        ),
        (["torch.OutOfMemoryError: CUDA out of memory", "done"], "torch.OutOfMemoryError: CUDA"),
        (["x.py: error: argument --limit: invalid"], "x.py: error: argument --limit"),
        (["KeyError: 1", "Errors so far: none"], "KeyError: 1"),
        ([], "it printed nothing"),
    ],
)
def test_the_last_error_is_found(lines: list[str], expected: str) -> None:
    assert last_error(lines).startswith(expected)


def model_args(options: Sequence[str]) -> dict[str, str]:
    value = options[options.index("--model_args") + 1]
    return dict(part.split("=", 1) for part in value.split(","))


def test_base_and_student_get_the_same_settings() -> None:
    spec = BenchmarkSpec(limit=5, num_fewshot=2, batch_size=4, seed=7)
    model = ModelSpec(path="tiny", dtype="float32")
    one = arguments("vqa", Path("/base"), spec, model, Path("/out"))
    other = arguments("vqa", Path("/student"), spec, model, Path("/out"))
    assert [part.replace("/base", "/student") for part in one] == other
    for option, value in (("--limit", "5"), ("--num_fewshot", "2"), ("--batch_size", "4")):
        assert one[one.index(option) + 1] == value
    assert one[one.index("--seed") + 1] == "7"
    assert "--log_samples" in one
    assert "--include_path" not in one
    expected = {"pretrained": "/base", "trust_remote_code": "False", "dtype": "float32"}
    assert model_args(one) == expected


def test_other_model_classes_get_their_own_arguments() -> None:
    model = ModelSpec(path="tiny", processor_args={"max_pixels": 1, "min_pixels": 1})
    vllm = BenchmarkSpec(model="vllm", model_args={"gpu_memory_utilization": 0.5})
    assert model_args(arguments("vqa", Path("/m"), vllm, model, Path("/out"))) == {
        "model": "/m",
        "trust_remote_code": "False",
        "gpu_memory_utilization": "0.5",
    }
    qwen = BenchmarkSpec(model="qwen2_5_vl")
    assert model_args(arguments("vqa", Path("/m"), qwen, model, Path("/out"))) == {
        "pretrained": "/m"
    }
    own = arguments("vqa", Path("/m"), BenchmarkSpec(), model, Path("/out"))
    assert 'processor_args={"max_pixels": 1, "min_pixels": 1}' in own[own.index("--model_args") + 1]


@pytest.mark.parametrize(
    ("model", "output", "named"), [("/a,b", "/out", "pretrained"), ("/a", "/o,ut", "run_dir")]
)
def test_an_argument_with_a_comma_is_refused(model: str, output: str, named: str) -> None:
    with pytest.raises(ConfigError, match=f"would cut {named}="):
        arguments("vqa", Path(model), BenchmarkSpec(), ModelSpec(path="tiny"), Path(output))
