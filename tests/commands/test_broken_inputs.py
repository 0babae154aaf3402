"""A broken mount or engine stops ``sekd elicit`` early, and costs neither samples nor attempts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import sekd

from sekd.data.images import ImageRef
from sekd.errors import SampleError
from sekd.stages import prepare

NUM_SAMPLES, SHARD_SIZE = 30, 10
ANY = ("--set", "elicit.max_quarantined=1.0")
ONE_ATTEMPT = ("--set", "elicit.runtime.max_attempts=1")


def break_images(
    monkeypatch: pytest.MonkeyPatch, is_broken: Callable[[int], bool] = lambda _: True
) -> None:
    """Let some images, by the order in which they are asked for, not be what an image is."""
    read, seen = prepare.read_and_hash, list[str]()

    def reading(ref: ImageRef, *args: Any) -> Any:
        if str(ref) not in seen:
            seen.append(str(ref))
        if is_broken(seen.index(str(ref))):
            raise SampleError(f"{ref}: not an image")
        return read(ref, *args)

    monkeypatch.setattr(prepare, "read_and_hash", reading)


def answers(run: Path) -> dict[str, Any]:
    """Return what ``sekd status`` says of the answers."""
    status: dict[str, Any] = json.loads(sekd("status", run, "--json").stdout)[0]
    return status


def test_a_streak_of_unusable_images_sets_none_aside(
    config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = ("--set", "elicit.runtime.max_consecutive_quarantined=7")
    with monkeypatch.context() as patch:
        break_images(patch)
        result = sekd("elicit", config_file, *ANY, *ONE_ATTEMPT, *limit)
    assert result.exit_code == 1
    assert "7 samples one after another cannot be used" in result.stderr
    assert "runtime.max_consecutive_quarantined" in result.stderr
    stopped = answers(config_file.parent / "run")
    assert (stopped["num_done"], stopped["num_quarantined"]) == (0, 0)
    result = sekd("elicit", config_file, *ONE_ATTEMPT, *limit)
    assert result.exit_code == 0, result.output
    assert answers(config_file.parent / "run")["num_done"] == NUM_SAMPLES


def test_a_streak_of_failed_shards_gives_their_attempts_back(
    config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = ("--set", "elicit.runtime.max_consecutive_failures=2")
    with monkeypatch.context() as patch:
        break_images(patch)  # more of a shard than elicit.max_quarantined
        result = sekd("elicit", config_file, *ONE_ATTEMPT, *limit)
    assert result.exit_code == 1
    assert "2 shards failed one after another" in result.stderr
    assert "runtime.max_consecutive_failures" in result.stderr
    assert len(list(config_file.parent.glob("run/answers/*/attempts/*.end.json"))) == 2
    result = sekd("elicit", config_file, *ONE_ATTEMPT, *limit)
    assert result.exit_code == 0, result.output
    assert answers(config_file.parent / "run")["num_done"] == NUM_SAMPLES


def test_quarantined_samples_are_tried_again_on_request(
    config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = config_file.parent / "run"
    with monkeypatch.context() as patch:
        break_images(patch, lambda number: number in (3, 25))
        assert sekd("elicit", config_file, *ANY).exit_code == 0
    assert answers(run)["num_quarantined"] == 2
    assert sekd("elicit", config_file, *ANY).exit_code == 0
    assert answers(run)["num_quarantined"] == 2  # nobody asked
    before = set(run.glob("answers/*/attempts/*.end.json"))
    result = sekd("elicit", config_file, *ANY, "--retry-failed")
    assert result.exit_code == 0, result.output
    assert answers(run)["num_quarantined"] == 0
    assert answers(run)["num_done"] == NUM_SAMPLES
    new = set(run.glob("answers/*/attempts/*.end.json")) - before
    assert {path.name for path in new} == {"00000-002.end.json", "00002-002.end.json"}
