"""sekd export: a folder with which a stranger gets the answers of the run, and the hub."""

from __future__ import annotations

import base64
import importlib.util
import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from command_line import sekd
from fake_hub import FakeHub, running_hub
from huggingface_hub import ModelCard

import sekd as library
from sekd.data.path_predictions import PathPrediction
from sekd.data.toyworld import write_world

GUIDE = (Path(__file__).parents[2] / "docs" / "export.md").read_text("utf-8")
SETTINGS: dict[str, Any] = {
    "distill": {
        "formats": ["quiz", "open"],
        "epochs": 1.0,
        "global_batch": 8,
        "learning_rate": 0.001,
        "lora": {"rank": 8, "alpha": 16, "dropout": 0.0},
        "runtime": {"batch_size": 4, "logging_steps": 1},
    },
    "evaluate": {
        "datasets": ["seen"],
        "paradigms": ["open"],
        "controls": ["blind"],
        "num_bootstrap": 10,
    },
}
NUM_PHOTOS = 6


@dataclass(frozen=True)
class Given:
    """A run with a calibrated student, and what it was exported as."""

    config: Path
    run: Path
    adapter: Path
    merged: Path
    photos: list[str]

    def predict(self, source: Path) -> list[PathPrediction]:
        with library.load(source) as model:
            assert not model.is_stepwise
            return list(model.predict(self.photos))


def run(*arguments: object) -> Result:
    result = sekd(*arguments)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    folder = tmp_path_factory.mktemp("export")
    write_world(folder / "world", num_train=16, num_test=12, seed=0)
    config = folder / "config.yaml"
    content = yaml.safe_load((folder / "world" / "config.yaml").read_text("utf-8")) | SETTINGS
    content["run_dir"] = str(folder / "run")
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    for command in (["elicit"], ["distill"], ["calibrate", "--data", "seen"], ["evaluate"]):
        run(*command, config)
    run("export", folder / "run", folder / "adapter")
    run("export", folder / "run", folder / "merged", "--merge")
    photos = sorted(map(str, (folder / "world" / "seen" / "images").glob("*/*")))
    assert photos
    return Given(config, folder / "run", folder / "adapter", folder / "merged", photos[:NUM_PHOTOS])


def test_the_folders_hold_what_a_stranger_needs_and_no_pickle(given: Given) -> None:
    told = {"sekd_usage.json", "taxonomy.json", "wording.yaml", "calibration.json", "README.md"}
    adapter, merged = (
        {path.name for path in each.iterdir()} for each in (given.adapter, given.merged)
    )
    assert told | {"adapter_model.safetensors", "adapter_config.json"} <= adapter
    assert told | {"model.safetensors", "config.json", "tokenizer.json"} <= merged
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in adapter | merged)
    usage = json.loads((given.merged / "sekd_usage.json").read_text("utf-8"))
    assert (usage["base_model"], usage["processor_args"]) == (None, {})
    assert usage["formats"] == ["quiz", "open"]


def test_the_card_is_one_of_the_hub_with_results_controls_and_provenance(given: Given) -> None:
    card = ModelCard.load(given.adapter / "README.md")
    assert card.data.library_name == "peft"
    assert card.data.model_name
    results = {(each.metric_type, each.metric_config) for each in card.data.eval_results or ()}
    assert results == {("hca", "open"), ("leaf_accuracy", "open")}
    for each in card.data.eval_results or ():
        assert each.metric_args is not None
        low, high = each.metric_args["low"], each.metric_args["high"]
        assert low <= each.metric_value <= high
        assert each.metric_args["num_samples"] == 12
    for part in ("| seen | student | open |", "| blind |", "calibrated on 12 images of seen"):
        assert part in card.text
    ranks = "ranks: order, family, genus, species"
    for part in (ranks, "Teacher: `tiny_model`", "- Licence: not known", "- Adapter: `"):
        assert part in card.text, part
    assert ModelCard.load(given.merged / "README.md").data.library_name == "transformers"


@pytest.mark.parametrize("name", ["adapter", "merged"])
def test_an_exported_folder_predicts_as_the_run_does(given: Given, name: str) -> None:
    expected, got = given.predict(given.run), given.predict(getattr(given, name))
    assert all(each.is_calibrated for each in (*expected, *got))
    for mine, theirs in zip(expected, got, strict=True):
        assert [level.node for level in mine.levels] == [level.node for level in theirs.levels]
        assert mine.probability == pytest.approx(theirs.probability, abs=1e-4)


def test_an_exported_folder_is_evaluated_as_the_student_is(given: Given, tmp_path: Path) -> None:
    content = yaml.safe_load(given.config.read_text("utf-8"))
    content["run_dir"] = str(tmp_path / "run")
    content["evaluate"] |= {
        "controls": [],
        "models": {
            "theirs": {"adapter": str(given.adapter)},
            "merged": {"path": str(given.merged), "dtype": "float32"},
        },
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    run("evaluate", tmp_path / "config.yaml")
    rows = json.loads((tmp_path / "run" / "metrics.json").read_text("utf-8"))["rows"]
    hca = {row["model"]: row["hca"]["value"] for row in rows}
    own = json.loads((given.run / "metrics.json").read_text("utf-8"))["rows"]
    (student,) = (
        row["hca"]["value"] for row in own if row["model"] == "student" and row["control"] == "none"
    )
    assert hca["theirs"] == hca["merged"] == student
    for row in rows:
        is_theirs = row["model"] in ("theirs", "merged")
        assert ("calibrated" in row["diagnosis"]) == is_theirs


def plain_code(folder: Path, photo: str) -> str:
    (code,) = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    return code.replace("birds-student", str(folder)).replace("photo.jpg", photo)


def uncalibrated(given: Given, folder: Path) -> list[PathPrediction]:
    shutil.copytree(given.adapter, folder)
    for name in ("calibration.json", "calibration.record.json", "export.record.json"):
        (folder / name).unlink()
    return given.predict(folder)


def test_the_guides_code_answers_alike_in_plain_transformers(given: Given, tmp_path: Path) -> None:
    expected = uncalibrated(given, tmp_path / "adapter")
    assert not any(each.is_calibrated for each in expected)
    for photo, prediction in zip(given.photos, expected, strict=True):
        names: dict[str, Any] = {}
        exec(compile(plain_code(given.adapter, photo), "docs/export.md", "exec"), names)
        assert names["path"] == [(level.rank, level.name) for level in prediction.levels]
        assert names["probability"] == pytest.approx(prediction.probability, abs=1e-4)


def test_an_adapter_alone_is_exported_with_the_card_of_its_training(
    given: Given, tmp_path: Path
) -> None:
    (trained,) = given.run.glob("distill/*/adapter")
    shutil.copytree(trained, tmp_path / "found")
    content = json.loads(
        run("export", tmp_path / "found", tmp_path / "out", "--licence", "mit", "--json").stdout
    )
    assert content["is_calibrated"]
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.license == "mit"
    assert card.data.eval_results is None
    one, other = given.predict(given.run), given.predict(tmp_path / "out")
    assert [each.probability for each in one] == [each.probability for each in other]
    (tmp_path / "found" / "sekd_usage.json").unlink()
    refused = sekd("export", tmp_path / "found", tmp_path / "other")
    assert refused.exit_code == 2
    assert "export the run that it was trained in" in refused.output


def test_a_changed_file_is_refused_and_an_export_replaces_an_earlier_one_alone(
    given: Given, tmp_path: Path
) -> None:
    shutil.copytree(given.merged, tmp_path / "merged")
    weights = tmp_path / "merged" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    result = sekd("predict", given.photos[0], "--model", tmp_path / "merged")
    assert result.exit_code == 2
    assert f"{weights}: not what was written" in result.output
    run("export", given.run, tmp_path / "merged")
    assert not weights.exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    refused = sekd("export", given.run, tmp_path / "mine")
    assert refused.exit_code == 2
    assert "no export of sekd; give another folder" in refused.output


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with running_hub() as hub:
        yield hub


def push(given: Given, out: Path, repository: str, **environment: str) -> Any:
    """Run the command in a process of its own: the hub's library reads its address once."""
    known = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return subprocess.run(
        [sys.executable, "-m", "sekd", "export", given.run, out, "--push", repository],
        env=known | {"HF_HOME": str(out.parent / "hf"), **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_push_uploads_every_file_with_the_token_of_the_user(
    given: Given, hub: FakeHub, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = push(given, out, "me/birds", HF_ENDPOINT=hub.address, HF_TOKEN="hf_mine")
    assert done.returncode == 0, done.stderr
    assert f"pushed: {hub.address}/me/birds" in done.stdout
    assert hub.created[0]["name"] == "birds"
    assert hub.created[0].get("private", hub.created[0].get("visibility") == "private")
    assert hub.tokens == {"Bearer hf_mine"}
    assert hub.files == {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.mark.parametrize(
    ("repository", "environment", "code", "message"),
    [
        ("me/birds", {"HF_TOKEN": "hf_mine", "HF_HUB_OFFLINE": "1"}, 2, "HF_HUB_OFFLINE is set"),
        ("me/other", {"HF_TOKEN": "hf_mine"}, 1, "is written, and was not pushed to me/other"),
        ("a b/c", {"HF_TOKEN": "hf_mine"}, 2, "give the repository as NAME/MODEL"),
    ],
)
def test_a_push_that_fails_says_why_and_leaves_the_folder(
    given: Given,
    hub: FakeHub,
    tmp_path: Path,
    repository: str,
    environment: dict[str, str],
    code: int,
    message: str,
) -> None:
    out = tmp_path / "out"
    done = push(given, out, repository, HF_ENDPOINT=hub.address, **environment)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert done.stderr.strip().count("\n") < 5
    assert (out / "README.md").is_file()


@contextmanager
def served(log: Path, *arguments: str) -> Iterator[str]:
    """Run vLLM's server of OpenAI's API on loopback until the block ends; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *arguments]
    settings = ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"]
    settings += ["--max-model-len", "1024", "--block-size", "32"]
    settings += ["--kv-cache-memory-bytes", str(1 << 28)]
    environment = os.environ | {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, *settings], env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + 240
        while True:
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < deadline, "vLLM's server did not start"
                time.sleep(1)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ask(address: str, model: str, usage: dict[str, Any], answers: list[str], photo: str) -> Any:
    data = base64.b64encode(Path(photo).read_bytes()).decode()
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    content = [image, {"type": "text", "text": usage["open_prompt"]}]
    request = {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "temperature": 0,
        "max_tokens": 64,
        "logprobs": True,
        "structured_outputs": {"choice": answers},
    }
    post = urllib.request.Request(
        f"{address}/v1/chat/completions",
        data=json.dumps(request).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(post, timeout=120) as response:
        return json.loads(response.read())["choices"][0]


@pytest.mark.vllm
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm not installed")
@pytest.mark.parametrize("name", ["adapter", "merged"])
def test_vllms_server_answers_alike(given: Given, tmp_path: Path, name: str) -> None:
    usage = json.loads((given.adapter / "sekd_usage.json").read_text("utf-8"))
    leaves = json.loads((given.adapter / "taxonomy.json").read_text("utf-8"))["leaves"]
    paths = [list(zip(leaf["ranks"], leaf["names"], strict=True)) for leaf in leaves]
    below_root = slice(1 if usage["root"] else 0, None)
    # No token of the tiny model is a space, which its tokenizer takes as given between words; a
    # grammar of answers knows tokens alone. With another tokenizer these are the lines as they are.
    answers = ["\n".join(f"{r}:{n}" for r, n in path[below_root]) for path in paths]
    expected = uncalibrated(given, tmp_path / "plain")
    if name == "merged":
        arguments = ["--model", str(given.merged), "--served-model-name", "student"]
    else:
        lora = ["--enable-lora", "--max-lora-rank", "8"]
        module = f"student={given.adapter}"
        arguments = ["--model", usage["base_model"], *lora, "--lora-modules", module]
    with served(tmp_path / "vllm.log", *arguments) as address:
        for photo, prediction in zip(given.photos, expected, strict=True):
            choice = ask(address, "student", usage, answers, photo)
            lines = [f"{level.rank}:{level.name}" for level in prediction.levels]
            assert "".join(choice["message"]["content"].split()) == "".join(lines)
            logprob = sum(token["logprob"] for token in choice["logprobs"]["content"])
            assert math.exp(logprob) == pytest.approx(prediction.probability, abs=1e-3)
