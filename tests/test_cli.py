"""The commands as a user runs them: the whole job once, then wrong settings, kills and vLLM."""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from command_line import answers_of, sekd

from sekd.cli import main
from sekd.config import load_config
from sekd.data import signals
from sekd.data.toyworld import write_world


def attempts(config_file: Path) -> list[str]:
    run_dir = load_config(config_file).run_dir
    return sorted(path.name for path in run_dir.glob("*/*/attempts/*"))


def test_help_does_not_import_the_heavy_libraries() -> None:
    code = (
        "import sys; sys.argv = ['sekd', '--help']\n"
        "from sekd.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'vllm', 'peft', 'pyarrow', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "elicit" in done.stdout


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_shows_an_example(command: str) -> None:
    result = sekd(command, "--help")
    assert result.exit_code == 0
    assert f"sekd {command}" in result.output.split("Example:")[1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of a run that went through all three stages."""
    directory = tmp_path_factory.mktemp("finished")
    write_world(directory / "world", num_train=30, num_test=12, seed=0)
    config = directory / "world" / "config.yaml"
    for command in ("elicit", "distill", "evaluate"):
        result = sekd(command, config, *SMALL)
        assert result.exit_code == 0, result.output
    return config


SMALL = [
    *("--set", "elicit.runtime.shard_size=10"),
    *("--set", "distill.epochs=1.0"),
    *("--set", "distill.global_batch=8"),
    *("--set", "distill.runtime.batch_size=4"),
    *("--set", "distill.runtime.logging_steps=1"),
]


def test_metrics_json_has_every_cell(finished: Path) -> None:
    rows = json.loads((finished.parents[1] / "metrics.json").read_text())["rows"]
    cells = {(row["model"], row["dataset"], row["paradigm"], row["control"]) for row in rows}
    assert cells == {
        *(
            (model, dataset, paradigm, control)
            for model in ("base", "student")
            for dataset in ("seen", "unseen")
            for paradigm in ("joint", "joint_forced", "independent", "conditioned")
            for control in ("none", "blind", "shuffled", "circular", "siblings")
        ),
        *(("taxonomy", dataset, "options", "taxonomy") for dataset in ("seen", "unseen")),
    }
    for row in rows:
        assert row["num_samples"] == 12
        assert 0 <= row["hca"]["low"] <= row["hca"]["value"] <= row["hca"]["high"] <= 100
        assert set(row["level_accuracy"]) == {"1", "2", "3", "4"}


def test_the_base_keeps_to_the_form_of_a_joint_reply_but_needs_single_questions(
    finished: Path,
) -> None:
    rows = json.loads((finished.parents[1] / "metrics.json").read_text())["rows"]
    cells = {
        (row["dataset"], row["paradigm"]): row
        for row in rows
        if (row["model"], row["control"]) == ("base", "none")
    }
    for dataset in ("seen", "unseen"):
        assert cells[dataset, "joint"]["parse_failure_rate"]["value"] < 10
        for paradigm in ("conditioned", "independent"):
            better = cells[dataset, paradigm]["hca"]["value"]
            assert better > cells[dataset, "joint"]["hca"]["value"] + 20


def test_predictions_hold_every_answer(finished: Path) -> None:
    rows = pq.read_table(finished.parents[1] / "predictions.parquet").to_pylist()
    one_cell, num_cells = 12 * 4, 2 * 2 * 4
    assert sum(row["control"] == "none" for row in rows) == num_cells * one_cell
    # Blind, shuffled, siblings and four rotations of each cell; the solver once per dataset.
    assert len(rows) == (num_cells * (1 + 3 + 4) + 2) * one_cell
    for row in rows:
        assert row["truth"] in row["options"]
        assert row["prediction"] is None or row["prediction"] in row["options"]
        assert (row["reply"] is not None) == (row["paradigm"] == "joint")
        assert row["paradigm"] == "joint" or row["prediction"] is not None


def test_the_adapter_is_a_plain_peft_adapter(finished: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    (adapter,) = finished.parents[1].glob("distill/*/adapter")
    base = AutoModelForImageTextToText.from_pretrained(load_config(finished).model.path)
    model = PeftModel.from_pretrained(base, str(adapter))
    assert all("text_model.layers" in name for name in model.targeted_module_names)
    card = (adapter / "README.md").read_text("utf-8")
    assert yaml.safe_load(card.split("---")[1])["library_name"] == "peft"


def test_the_resolved_config_stands_beside_the_results(finished: Path) -> None:
    resolved = load_config(finished.parents[1] / "distill.config.yaml")
    assert resolved == load_config(finished, [arg for arg in SMALL if arg != "--set"])


@pytest.mark.parametrize("command", ["elicit", "distill", "evaluate"])
def test_a_second_run_does_nothing_again(finished: Path, command: str) -> None:
    before = attempts(finished)
    (adapter,) = finished.parents[1].glob("distill/*/adapter/adapter_model.safetensors")
    trained = adapter.stat().st_mtime_ns
    result = sekd(command, finished, *SMALL, "--json")
    assert result.exit_code == 0
    assert attempts(finished) == before
    assert adapter.stat().st_mtime_ns == trained
    json.loads(result.stdout)  # nothing but JSON on standard output


def test_another_config_is_told_from_the_finished_one(finished: Path) -> None:
    """It gets no signals that were made under other settings, and hears what differs."""
    result = sekd("distill", finished, *SMALL, "--set", "elicit.top_k=7")
    assert result.exit_code == 2
    assert "elicit.top_k: 20 -> 7" in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_a_changed_config_keeps_what_was_done(config_file: Path) -> None:
    assert sekd("elicit", config_file).exit_code == 0
    before = {path: path.read_bytes() for path in config_file.parent.glob("run/answers/*/data/*/*")}
    result = sekd("elicit", config_file, "--set", "elicit.top_k=7")
    assert result.exit_code == 0
    assert "starts anew" in result.output
    assert "spec.elicit.top_k: 20 -> 7" in result.output
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_model_without_a_chat_template_ends_in_one_line(
    config_file: Path, tiny_model: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare-model"
    shutil.copytree(tiny_model, bare)
    (bare / "chat_template.jinja").unlink()
    result = sekd("elicit", config_file, "--set", f"model.path={bare}")
    assert result.exit_code == 2
    (line,) = result.output.strip().splitlines()
    assert "bare-model" in line
    assert "no chat template" in line


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.path=nobody/nothing", "run `hf download nobody/nothing` first"),
        ("elicit.dataset=trian", "no dataset 'trian' under data; did you mean train?"),
        ("elicit.layers=[block_9]", "block_0 to block_3"),
        ("elicit.engin=vllm", "did you mean engine?"),
    ],
)
def test_a_bad_setting_ends_in_one_line(config_file: Path, override: str, message: str) -> None:
    result = sekd("elicit", config_file, "--set", override)
    assert result.exit_code == 2
    assert message in result.output.strip().splitlines()[-1]
    assert "Traceback" not in result.output


def test_distill_before_elicit_says_what_to_do(config_file: Path) -> None:
    result = sekd("distill", config_file)
    assert result.exit_code == 2
    assert "run sekd elicit first" in result.output


def test_killed_elicitations_resume_to_the_same_content(config_file: Path, tmp_path: Path) -> None:
    """SIGKILL at random moments, then a run to the end: nothing lost, nothing done twice."""
    rng = random.Random(0)
    settings = ["--set", "elicit.runtime.shard_size=3", "--set", "elicit.runtime.max_attempts=100"]
    command = [sys.executable, "-m", "sekd", "elicit", str(config_file), *settings]
    for _ in range(4):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        records = tmp_path / "run"
        seen = len(list(records.glob("*/*/attempts/*.start.json")))
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if len(list(records.glob("*/*/attempts/*.start.json"))) > seen:
                time.sleep(rng.uniform(0, 0.3))
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.02)
        process.wait()
    assert sekd("elicit", config_file, *settings).exit_code == 0
    ends = [json.loads(p.read_text()) for p in (tmp_path / "run").glob("*/*/attempts/*.end.json")]
    assert sorted(r["shard"] for r in ends if r["status"] == "done") == sorted([*range(10)] * 2)
    killed = answers_of(config_file)
    undisturbed = tmp_path / "undisturbed"
    assert sekd("elicit", config_file, *settings, "--set", f"run_dir={undisturbed}").exit_code == 0
    config_file.write_text(config_file.read_text().replace(str(tmp_path / "run"), str(undisturbed)))
    assert killed == answers_of(config_file)


@pytest.mark.vllm
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm not installed")
def test_vllm_gives_the_labels_of_transformers(config_file: Path, tmp_path: Path) -> None:
    """At least 99 % of the answers; and the state pass agrees with vLLM too."""
    assert sekd("elicit", config_file).exit_code == 0
    expected = answers_of(config_file)
    other = tmp_path / "vllm"
    # In a process of its own: vLLM sets thread counts for all that comes after it.
    settings = ["--set", "elicit.engine=vllm", "--set", f"run_dir={other}"]
    subprocess.run(
        [sys.executable, "-m", "sekd", "elicit", str(config_file), *settings], check=True
    )
    config_file.write_text(config_file.read_text().replace(str(tmp_path / "run"), str(other)))
    got = answers_of(config_file)
    assert got.keys() == expected.keys()
    same = sum(got[key] == expected[key] for key in expected)
    assert same >= 0.99 * len(expected)
    (manifest,) = other.glob("states/*/manifest-*.json")
    figures = [shard["figures"] for shard in json.loads(manifest.read_text())["shards"]]
    assert max(shard["parity_max"] for shard in figures) < 1e-3


def test_teacher_signals_read_back(finished: Path) -> None:
    """What distillation reads: every sample joined by id and level."""
    (manifest,) = finished.parents[1].glob("answers/*/manifest-*.json")
    for shard in json.loads(manifest.read_text())["shards"]:
        files = {entry["role"]: manifest.parent / entry["path"] for entry in shard["files"]}
        samples = signals.TeacherShard(files[signals.TRANSCRIPTS], files[signals.ANSWERS])
        assert len(samples) == shard["num_done"]
        signals.check_samples(samples, samples.sample_ids, manifest)
