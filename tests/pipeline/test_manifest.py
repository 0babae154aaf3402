"""The manifest: written only over files that are what their records say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from plans import split

from sekd.data.shards import Quarantined, Shard, ShardResult
from sekd.errors import ConfigError, FatalError, ShardError
from sekd.pipeline.ledger import Ledger, ShardState
from sekd.pipeline.manifest import Manifest, manifest_name, manifest_names
from sekd.pipeline.plan import Plan

PLAN = split(["a", "b", "c", "d", "e"], 2)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A stage whose three shards are done; "c" was quarantined, the last shard has one file."""
    ledger = Ledger(tmp_path / "stage")
    for shard in PLAN:
        attempt = ledger.begin(shard.index)
        quarantined = [Quarantined(i, "blurred", level=2) for i in shard.sample_ids if i == "c"]
        files = {}
        for role in ("answers", "states") if shard.index < 2 else ("answers",):
            files[role] = attempt.folder / f"{role}.txt"
            files[role].write_text(f"{role} of {shard.sample_ids}")
        stats = {"seconds": shard.index + 0.5}
        if shard.index == 1:
            stats["parity"] = 0.1
        num_done = len(shard.sample_ids) - len(quarantined)
        attempt.commit(ShardResult(files, num_done, quarantined, stats), shard.key)
    return ledger


def finalise(ledger: Ledger, plan: Plan = PLAN) -> Manifest:
    manifest = Manifest.finalise(ledger, "f00d", plan, ledger.states(plan))
    assert manifest is not None
    return manifest


def test_a_manifest_lists_what_was_done(ledger: Ledger) -> None:
    manifest = finalise(ledger)
    data = ledger.data

    def file(shard: int, role: str) -> Path:
        (path,) = data.glob(f"{shard:05d}-001-*/{role}.txt")
        return path

    assert manifest.content["stage"] == "f00d"
    assert (manifest.num_samples, manifest.content["num_planned"]) == (4, 5)
    assert manifest.quarantined == [{"sample_id": "c", "reason": "blurred", "level": 2}]
    assert manifest.files("states") == {i: file(i, "states") for i in (0, 1)}
    assert manifest.files("answers") == {i: file(i, "answers") for i in (0, 1, 2)}
    assert manifest.files("pictures") == {}
    assert manifest.files_by_shard("answers", "states") == {
        i: (file(i, "answers"), file(i, "states")) for i in (0, 1)
    }
    assert manifest.stats("seconds") == [0.5, 1.5, 2.5]
    assert manifest.stats("parity") == [0.1]
    assert manifest.shards_by_key() == {shard.key: shard.index for shard in PLAN}


def test_the_fingerprint_follows_from_stage_keys_and_files(ledger: Ledger) -> None:
    before = finalise(ledger)
    again = Manifest.finalise(ledger, "f00d", PLAN, ledger.states(PLAN))
    assert again is not None
    assert again.fingerprint == before.fingerprint
    Manifest.discard(ledger.directory, PLAN.content)
    other_stage = Manifest.finalise(ledger, "d00f", PLAN, ledger.states(PLAN))
    assert other_stage is not None
    assert other_stage.fingerprint != before.fingerprint
    Manifest.discard(ledger.directory, PLAN.content)
    ledger.revoke(2, 1, "to do it again")
    attempt = ledger.begin(2)
    (attempt.folder / "answers.txt").write_text("others")
    attempt.commit(ShardResult({"answers": attempt.folder / "answers.txt"}, 1), PLAN.shards[2].key)
    after = finalise(ledger)
    assert after.fingerprint != before.fingerprint
    keys_before, keys_after = before.keys_of_files(), after.keys_of_files()
    assert [shard for shard in keys_after if keys_after[shard] != keys_before[shard]] == [2]


def test_a_manifest_is_read_back_also_when_its_stage_was_moved(ledger: Ledger) -> None:
    manifest = finalise(ledger)
    assert Manifest.load(ledger.directory, PLAN.content) == manifest
    moved = ledger.directory.rename(ledger.directory.with_name("moved"))
    assert all(
        path.is_file() for path in Manifest.load(moved, PLAN.content).files("answers").values()
    )


def test_only_the_attempt_that_was_committed_is_listed(ledger: Ledger) -> None:
    attempt = ledger.begin(1)  # and died
    (attempt.folder / "answers.txt").write_text("other")
    assert finalise(ledger).files("answers")[1].parent.name.startswith("00001-001-")


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage", [flip_a_byte, Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1])]
)
def test_a_changed_file_revokes_its_attempt(
    ledger: Ledger, damage: Callable[[Path], object]
) -> None:
    (path,) = ledger.data.glob("00001-001-*/states.txt")
    damage(path)
    assert Manifest.finalise(ledger, "f00d", PLAN, ledger.states(PLAN)) is None
    assert not manifest_names(ledger.directory)
    assert ledger.revoked() == {(1, 1)}
    assert [state.status for state in ledger.states(PLAN)] == ["done", "damaged", "done"]


def test_a_manifest_that_exists_is_not_written_again(ledger: Ledger) -> None:
    before = finalise(ledger)
    written = (ledger.directory / manifest_name(PLAN.content)).read_bytes()
    states = ledger.states(PLAN)
    record = {**(states[0].record or {}), "attempt": 2}  # as another runner might see it
    states[0] = replace(states[0], record=record)
    assert Manifest.finalise(ledger, "f00d", PLAN, states) == before
    assert (ledger.directory / manifest_name(PLAN.content)).read_bytes() == written


@pytest.mark.parametrize("damage", [flip_a_byte, Path.unlink])
def test_a_sound_manifest_has_its_files_as_they_were(
    ledger: Ledger, damage: Callable[[Path], object]
) -> None:
    manifest = finalise(ledger)
    assert manifest.is_sound(ledger)
    (path,) = ledger.data.glob("00002-001-*/answers.txt")
    damage(path)
    with pytest.raises(ShardError, match=rf"^{path}: .*run the command that made it again"):
        manifest.files("answers")
    assert not ledger.revoked()  # a reader refuses, and the stage itself repairs
    assert not manifest.is_sound(ledger)
    assert ledger.revoked() == {(2, 1)}


def test_a_file_that_another_shard_overwrote_is_found(ledger: Ledger) -> None:
    manifest = finalise(ledger)
    (first,), (second,) = (ledger.data.glob(f"0000{i}-001-*/answers.txt") for i in (0, 1))
    assert first.stat().st_size == second.stat().st_size
    first.replace(second)
    assert not manifest.is_sound(ledger)
    assert ledger.revoked() == {(0, 1), (1, 1)}


@pytest.mark.parametrize(
    ("sample_ids", "message"), [("abcdef", "are not the 6 planned"), ("abcdefg", "shard 3 is pend")]
)
def test_done_and_quarantined_samples_must_add_up_to_the_plan(
    ledger: Ledger, sample_ids: str, message: str
) -> None:
    shards = split(list(sample_ids), 2)
    plan = Plan(tuple(Shard(shard.index, shard.sample_ids) for shard in shards))
    with pytest.raises(FatalError, match=message):
        finalise(ledger, plan)


@pytest.mark.parametrize("status", ["pending", "lost", "failed"])
def test_a_shard_that_is_not_done_is_refused(ledger: Ledger, status: str) -> None:
    states = ledger.states(PLAN)
    states[1] = replace(states[1], status=status)
    with pytest.raises(FatalError, match=f"shard 1 is {status}"):
        Manifest.finalise(ledger, "f00d", PLAN, states)


def test_every_planned_shard_needs_a_state(ledger: Ledger) -> None:
    states: list[ShardState] = ledger.states(PLAN)[:2]
    with pytest.raises(ValueError, match="shorter"):
        Manifest.finalise(ledger, "f00d", PLAN, states)


def test_an_unfinished_stage_has_no_manifest(ledger: Ledger) -> None:
    with pytest.raises(ConfigError, match=r"manifest-\w+\.json: not there"):
        Manifest.load(ledger.directory, PLAN.content)
