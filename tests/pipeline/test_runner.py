"""Runs of a stage: what is done stays done, and failures are reported."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from plans import manifest_of, split

from sekd.data.shards import Quarantined, Shard, ShardResult
from sekd.errors import ConfigError, FatalError, SekdError, ShardError
from sekd.io.records import unseal
from sekd.pipeline.inputs import SampleInputs
from sekd.pipeline.manifest import Manifest
from sekd.pipeline.runner import Outcome, run_stage
from sekd.pipeline.stage import Stage, find_finished

IDS = [f"sample {i}" for i in range(7)]  # shards of 2, 2, 2, 1
FIELDS = {"version": 1, "spec": {"seed": 0, "model": {"path": "tiny"}}}


@dataclass
class FakeWorker:
    """Writes a file for each shard; raises or miscounts at given shards."""

    errors: Mapping[int, BaseException] = field(default_factory=dict)
    quarantine: Sequence[str] = ()
    miscount: Mapping[int, int] = field(default_factory=dict)
    ran: list[int] = field(default_factory=list)
    num_opened: int = 0
    num_closed: int = 0

    def open(self) -> FakeWorker:
        self.num_opened += 1
        return self

    def process(self, shard: Shard, folder: Path, advance: Callable[[int], None]) -> ShardResult:
        self.ran.append(shard.index)
        path = folder / "answers.txt"
        kept = [sample_id for sample_id in shard.sample_ids if sample_id not in self.quarantine]
        path.write_text("\n".join(kept))
        advance(len(shard.sample_ids))
        if shard.index in self.errors:
            raise self.errors[shard.index]
        num_done = len(kept) + self.miscount.get(shard.index, 0)
        gone = [Quarantined(i, "blurred") for i in shard.sample_ids if i not in kept]
        return ShardResult({"answers": path}, num_done, gone)

    def close(self) -> None:
        self.num_closed += 1


def open_stage(root: Path, fields: Mapping[str, Any] = FIELDS, shard_size: int = 2) -> Stage:
    return Stage.open(root, fields, SampleInputs.of_ids(IDS, shard_size))


def run(root: Path, worker: FakeWorker, max_attempts: int = 3) -> Outcome:
    return run_stage(open_stage(root), worker.open, max_attempts=max_attempts)


def lines(manifest: Manifest | None) -> list[str]:
    assert manifest is not None
    return [i for path in manifest.files("answers").values() for i in path.read_text().split("\n")]


def test_a_stage_runs_once(root: Path) -> None:
    worker = FakeWorker()
    outcome = run(root, worker)
    assert lines(outcome.manifest) == IDS
    assert (worker.ran, outcome.num_run) == ([0, 1, 2, 3], 4)
    assert (dict(outcome.failed), list(outcome.exhausted)) == ({}, [])
    again = run(root, worker)
    assert again.manifest == outcome.manifest
    assert (worker.ran, again.num_run) == ([0, 1, 2, 3], 0)
    # Opening an engine takes minutes, so it is not done for a finished stage.
    assert (worker.num_opened, worker.num_closed) == (1, 1)


def test_a_failed_shard_does_not_stop_the_others(root: Path) -> None:
    worker = FakeWorker({1: ShardError("no luck"), 2: KeyError("level")})
    outcome = run(root, worker)
    assert worker.ran == [0, 1, 2, 3]
    assert outcome.manifest is None
    assert outcome.failed == {1: "ShardError: no luck", 2: "KeyError: 'level'"}
    assert list(outcome.exhausted) == []
    retry = FakeWorker()
    assert lines(run(root, retry).manifest) == IDS
    assert retry.ran == [1, 2]  # only what was not done


def test_attempts_are_used_up_over_runs(root: Path) -> None:
    ledger = open_stage(root).ledger
    ledger.begin(0).release()  # a sample that kills its worker must not do so for ever
    worker = FakeWorker({0: ShardError("no luck"), 1: ShardError("nor here")})
    assert list(run(root, worker, max_attempts=2).exhausted) == [0]
    assert list(run(root, worker, max_attempts=2).exhausted) == [0, 1]
    assert worker.ran == [1, 2, 3, 0, 1]  # the least tried first
    outcome = run(root, worker, max_attempts=2)
    assert (outcome.num_run, worker.num_opened) == (0, 2)
    assert outcome.failed == {0: "ShardError: no luck", 1: "ShardError: nor here"}
    assert lines(run(root, FakeWorker(), max_attempts=3).manifest) == IDS


def test_a_lost_shard_is_reported_as_lost(root: Path) -> None:
    open_stage(root).ledger.begin(0).release()
    outcome = run(root, FakeWorker(), max_attempts=1)
    assert outcome.failed == {0: "the process died on it"}
    assert (list(outcome.exhausted), outcome.num_run) == ([0], 3)


@pytest.mark.parametrize(
    ("error", "status", "recorded"),
    [
        (FatalError("engine is dead"), "failed", "FatalError: engine is dead"),
        (KeyboardInterrupt(), "pending", "KeyboardInterrupt"),
    ],
)
def test_an_error_that_stops_the_run_leaves_done_shards_done(
    root: Path, error: BaseException, status: str, recorded: str
) -> None:
    worker = FakeWorker({2: error})
    with pytest.raises(type(error)):
        run(root, worker)
    assert (worker.ran, worker.num_closed) == ([0, 1, 2], 1)
    states = open_stage(root).states()
    assert [state.status for state in states] == ["done", "done", status, "pending"]
    assert states[2].record is not None
    assert states[2].record["error"] == recorded
    retry = FakeWorker()
    assert lines(run(root, retry).manifest) == IDS
    assert retry.ran == [3, 2]


@pytest.mark.parametrize("error", [FatalError("engine is dead"), ShardError("no luck")])
def test_an_attempt_that_was_given_up_can_still_fail(root: Path, error: SekdError) -> None:
    class GivenUp(FakeWorker):
        def process(
            self, shard: Shard, folder: Path, advance: Callable[[int], None]
        ) -> ShardResult:
            if shard.index == 1:
                open_stage(root).ledger.give_up(1, 1, "lost", "no heartbeat")
            return super().process(shard, folder, advance)

    worker = GivenUp({1: error})
    if isinstance(error, FatalError):
        with pytest.raises(FatalError, match="engine is dead"):
            run(root, worker)
    else:
        assert run(root, worker).failed == {1: "no heartbeat"}
    assert open_stage(root).states()[1].status == "lost"


@pytest.mark.parametrize("error", [None, ShardError("x"), FatalError("x"), SystemExit(1)])
def test_the_worker_is_always_closed(root: Path, error: BaseException | None) -> None:
    worker = FakeWorker({0: error} if error else {})
    with contextlib.suppress(FatalError, SystemExit):
        run(root, worker)
    assert (worker.num_opened, worker.num_closed) == (1, 1)


@pytest.mark.parametrize("excess", [-1, 1])
def test_samples_that_do_not_add_up_fail_their_shard(root: Path, excess: int) -> None:
    outcome = run(root, FakeWorker(miscount={1: excess}))
    assert outcome.failed == {
        1: f"ShardError: {2 + excess} samples came back of 2 planned",
    }
    assert outcome.manifest is None


def test_a_file_that_was_not_written_fails_its_shard(root: Path) -> None:
    class Forgetful(FakeWorker):
        def process(
            self, shard: Shard, folder: Path, advance: Callable[[int], None]
        ) -> ShardResult:
            result = super().process(shard, folder, advance)
            if shard.index == 1:
                result.files["answers"].unlink()
            return result

    outcome = run(root, Forgetful())
    assert list(outcome.failed) == [1]
    assert outcome.failed[1].startswith("FileNotFoundError")


def test_quarantined_samples_are_in_the_manifest(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = run(root, FakeWorker(quarantine=[IDS[1], IDS[6]])).manifest
    assert manifest is not None
    assert manifest.quarantined == [
        {"sample_id": i, "reason": "blurred", "level": None} for i in (IDS[1], IDS[6])
    ]
    assert manifest.num_samples == 5
    assert f"quarantined {IDS[6]}: blurred" in caplog.messages


def test_a_finished_stage_whose_file_changed_size_does_that_shard_again(root: Path) -> None:
    manifest = run(root, FakeWorker()).manifest
    assert manifest is not None
    manifest.files("answers")[2].write_text("changed")
    again = FakeWorker()
    assert lines(run(root, again).manifest) == IDS
    assert again.ran == [2]


def test_changed_fields_open_a_new_directory(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="sekd.pipeline.stage")
    old = run(root, FakeWorker()).stage
    assert caplog.messages == []  # the first directory differs from nothing
    changed = {"version": 1, "spec": {"seed": 1, "model": {"path": "tiny"}}}
    new = open_stage(root, changed)
    assert new.directory != old.directory
    assert caplog.messages == [
        f"answers: starts anew; {old.directory} is kept, and differs in spec.seed: 0 -> 1"
    ]
    assert {state.status for state in new.states()} == {"pending"}
    open_stage(root, changed)
    assert len(caplog.messages) == 1  # announced once
    assert open_stage(root).directory == old.directory
    stored = unseal((new.directory / "fingerprint.json").read_bytes())
    assert stored == {"fingerprint": new.fingerprint, "number": 2, "fields": changed}
    assert new.directory.name == new.fingerprint[:16]


def test_a_stored_plan_is_kept_under_another_shard_size(root: Path) -> None:
    first = open_stage(root, shard_size=2)
    assert open_stage(root, shard_size=3).plan == first.plan == split(IDS, 2)


def test_a_finished_stage_is_found_by_its_settings_and_its_inputs(root: Path) -> None:
    inputs = SampleInputs.of_ids(IDS, 2)
    with pytest.raises(ConfigError, match="nothing is there"):
        find_finished(root, FIELDS, inputs)
    done = run(root, FakeWorker()).stage
    assert find_finished(root, FIELDS, inputs) == (done.plan, manifest_of(done.directory))
    changed = {"version": 1, "spec": {"seed": 1, "model": {"path": "tiny"}}}
    with pytest.raises(ConfigError, match=r"differs in spec\.seed: 0 -> 1"):
        find_finished(root, changed, inputs)
    with pytest.raises(ConfigError, match="1 samples are new or changed, the first is z"):
        find_finished(root, FIELDS, SampleInputs.of_ids([*IDS, "z"], 2))
    assert len(list(root.glob("*/plan-*.json"))) == 1  # looking writes nothing


MANY = [str(number) for number in range(40)]


def open_long_stage(root: Path, shard_size: int = 2) -> Stage:
    return Stage.open(root, FIELDS, SampleInputs.of_ids(MANY, shard_size))


def test_failures_in_a_row_stop_the_run_and_give_the_attempts_back(root: Path) -> None:
    stage = open_long_stage(root)
    worker = FakeWorker(errors={index: ShardError("no luck") for index in range(4, 20)})
    with pytest.raises(FatalError, match=r"3 shards failed one after another.*no luck"):
        run_stage(stage, worker.open, max_attempts=1, max_failed_in_row=3)
    statuses = [state.status for state in stage.states()]
    assert statuses == ["done"] * 4 + ["failed"] * 3 + ["pending"] * 13
    assert run_stage(stage, FakeWorker().open, max_attempts=1).manifest is not None


def test_failures_between_shards_that_are_done_stop_nothing(root: Path) -> None:
    worker = FakeWorker(errors={index: ShardError("no luck") for index in range(0, 20, 2)})
    outcome = run_stage(open_long_stage(root), worker.open, max_attempts=1, max_failed_in_row=2)
    assert len(outcome.failed) == 10


def test_shards_of_which_every_sample_is_quarantined_stop_the_run(root: Path) -> None:
    stage = open_long_stage(root)
    worker = FakeWorker(quarantine=MANY)
    with pytest.raises(FatalError, match="all its samples are quarantined"):
        run_stage(stage, worker.open, max_attempts=1, max_failed_in_row=3)
    outcome = run_stage(stage, FakeWorker().open, max_attempts=1)
    assert outcome.manifest is not None
    assert outcome.manifest.quarantined == []


def test_samples_quarantined_in_a_row_are_not_stored(root: Path) -> None:
    stage = open_long_stage(root, shard_size=20)
    worker = FakeWorker(quarantine=MANY[5:15])
    with pytest.raises(FatalError, match="10 samples one after another cannot be used"):
        run_stage(stage, worker.open, max_attempts=1, max_quarantined_in_row=10)
    assert [state.status for state in stage.states()] == ["pending", "pending"]
    outcome = run_stage(stage, worker.open, max_attempts=1, max_quarantined_in_row=11)
    assert outcome.manifest is not None


def test_quarantined_samples_are_tried_again_on_request(root: Path) -> None:
    stage = open_long_stage(root)
    first = run_stage(stage, FakeWorker(quarantine=["3"]).open, max_attempts=1)
    assert first.manifest is not None
    assert [sample["sample_id"] for sample in first.manifest.quarantined] == ["3"]
    # Where the new attempt fails, what was done stays done.
    worker = FakeWorker(errors={1: ShardError("no luck")})
    second = run_stage(stage, worker.open, max_attempts=1, retry_failed=True)
    assert worker.ran == [1]
    assert second.manifest is not None
    assert second.manifest.quarantined == first.manifest.quarantined
    worker = FakeWorker()
    third = run_stage(stage, worker.open, max_attempts=1, retry_failed=True)
    assert worker.ran == [1]
    assert third.manifest is not None
    assert third.manifest.quarantined == []
    assert run_stage(stage, worker.open, max_attempts=1, retry_failed=True).num_run == 0
