"""The ledger: attempts are numbered on disk, and a shard's status follows from records alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sekd.data.shards import Quarantined, Shard, ShardResult
from sekd.errors import ShardError
from sekd.io.files import write_atomically
from sekd.io.hashing import hash_file
from sekd.io.records import seal, unseal
from sekd.pipeline import liveness
from sekd.pipeline.attempt import Attempt, AttemptEndedError
from sekd.pipeline.ledger import Ledger
from sekd.pipeline.liveness import Observer
from sekd.pipeline.names import record_name

SHARD = Shard(17, ("a", "b"))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path)


def commit(attempt: Attempt, text: str = "data") -> None:
    path = attempt.folder / "answers.txt"
    path.write_text(text)
    attempt.commit(ShardResult({"answers": path}, len(SHARD.sample_ids)))


def play(ledger: Ledger, *events: str) -> None:
    """Make one attempt per event: "done", "failed", or "lost" if the process died on it."""
    for event in events:
        attempt = ledger.begin(SHARD.index)
        if event == "done":
            commit(attempt, attempt.name)
        elif event == "failed":
            attempt.fail(ShardError(attempt.name))
        else:
            attempt.release()


@pytest.mark.parametrize(
    ("events", "status", "last_record"),
    [
        ((), "pending", None),
        (("lost",), "lost", None),
        (("failed",), "failed", 1),
        (("done",), "done", 1),
        (("failed", "lost"), "lost", None),
        (("lost", "failed"), "failed", 2),
        (("failed", "failed"), "failed", 2),
        (("lost", "failed", "done"), "done", 3),
        # Another process may have begun while the first was at its commit: done stays done.
        (("done", "lost"), "done", 1),
        (("lost", "done", "failed", "lost"), "done", 2),
    ],
)
def test_status_follows_from_the_records(
    ledger: Ledger, events: tuple[str, ...], status: str, last_record: int | None
) -> None:
    play(ledger, *events)
    for reader in (ledger, Ledger(ledger.directory)):  # the status does not depend on memory
        (state,) = reader.states([SHARD])
        assert (state.status, state.num_attempts) == (status, len(events))
        assert (state.record and state.record["attempt"]) == last_record


def test_states_come_in_the_order_asked_for(ledger: Ledger) -> None:
    play(ledger, "done")
    ledger.begin(3).release()
    states = ledger.states([Shard(i, ("x",)) for i in (3, 17, 1)])
    assert [state.status for state in states] == ["lost", "done", "pending"]


def test_an_end_record_says_what_was_done(ledger: Ledger) -> None:
    attempt = ledger.begin(17)
    path = attempt.folder / "answers.txt"
    path.write_text("é")
    quarantined = [Quarantined("b", "no picture: bär.jpg", level=2)]
    attempt.commit(ShardResult({"answers": path}, 1, quarantined, {"seconds": 1.5}))
    record = unseal((ledger.attempts / "00017-001.end.json").read_bytes())
    assert record.pop("started") <= record.pop("ended")
    assert record.pop("seconds") >= 0
    assert record == {
        "shard": 17,
        "attempt": 1,
        "status": "done",
        "key": "",
        "files": [
            {
                "role": "answers",
                "path": f"data/{attempt.folder.name}/answers.txt",  # relative: a stage can be moved
                "bytes": 2,
                "sha256": hash_file(path),
            }
        ],
        "num_done": 1,
        "quarantined": [{"sample_id": "b", "reason": "no picture: bär.jpg", "level": 2}],
        "figures": {"seconds": 1.5},
    }


def test_a_failure_is_recorded_with_its_kind(ledger: Ledger) -> None:
    ledger.begin(17).fail(ValueError("odd"))
    (state,) = ledger.states([SHARD])
    assert state.record is not None
    assert state.record["error"] == "ValueError: odd"


def test_attempts_have_folders_and_numbers_of_their_own(ledger: Ledger) -> None:
    attempts = [ledger.begin(17), Ledger(ledger.directory).begin(17), ledger.begin(3)]
    assert [attempt.name for attempt in attempts] == ["00017-001", "00017-002", "00003-001"]
    assert len({attempt.folder for attempt in attempts}) == 3
    assert all(attempt.folder.is_dir() for attempt in attempts)


def test_a_number_is_claimed_by_one_runner_only(ledger: Ledger) -> None:
    with ThreadPoolExecutor(8) as pool:
        # A ledger each, as two runs of one stage would have.
        begun = list(pool.map(lambda _: Ledger(ledger.directory).begin(17).number, range(24)))
    assert sorted(begun) == list(range(1, 25))


@pytest.mark.parametrize("shard", [100_000, 1_234_567])
def test_shards_and_attempts_may_have_more_digits_than_names_are_padded_to(
    ledger: Ledger, shard: int
) -> None:
    ledger.attempts.mkdir()
    (ledger.attempts / f"{shard}-999.start.json").touch()
    (ledger.attempts / f"{shard}-999.end.json").touch()
    attempt = ledger.begin(shard)
    assert attempt.name == f"{shard}-1000"
    commit(attempt)
    last = ledger.begin(shard)
    last.release()
    assert last.number == 1001  # after 1000 by number, not by name
    other = ledger.begin(shard % 100_000)
    other.release()
    assert other.number == 1  # whose name ends like the other's
    big, small = ledger.states([Shard(shard, ("x",)), Shard(shard % 100_000, ("x",))])
    assert (big.status, big.num_attempts) == ("done", 1001)
    assert (small.status, small.num_attempts) == ("lost", 1)


def test_temporary_and_uncommitted_files_do_not_count(ledger: Ledger) -> None:
    play(ledger, "lost")
    (ledger.attempts / ".00017-001.end.json.0f3a.tmp").write_text('{"status": "do')
    folder = ledger.data / "00017-001-0f3a2b"
    folder.mkdir(parents=True)
    (folder / "answers.txt").write_text("all of it, but never committed")
    (state,) = ledger.states([SHARD])
    assert state.status == "lost"


def test_an_empty_start_record_is_an_attempt(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It does not say which process it is of: it is lost once no heartbeat has come for a while.
    ledger.attempts.mkdir()
    (ledger.attempts / "00017-001.start.json").touch()
    observer = Observer()
    assert ledger.states([SHARD], observer)[0].status == "running"
    monkeypatch.setattr(liveness, "LOST_AFTER_SECONDS", 0)
    assert ledger.states([SHARD], observer)[0].status == "lost"
    assert ledger.begin(17).number == 2


def test_an_attempt_of_another_machine_runs_as_long_as_its_heartbeat_changes(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = {"host": "elsewhere", "pid": 1, "born": "1"}
    start = seal({"shard": 17, "attempt": 1, "process": process, "started": 0.0})
    write_atomically(ledger.attempts / record_name(17, 1, "start"), start)
    monkeypatch.setattr(liveness, "LOST_AFTER_SECONDS", 0)
    assert ledger.states([SHARD])[0].status == "running"  # nobody has observed it yet
    observer = Observer()
    for count in range(3):
        write_atomically(ledger.attempts / record_name(17, 1, "beat"), str(count))
        assert ledger.states([SHARD], observer)[0].status == "running"
    assert ledger.states([SHARD], observer)[0].status == "lost"


@pytest.mark.parametrize(
    "content", [b"", b'{"status": "do', b"{}", b"[]", b"null", b'"status"', b"\xff"]
)
def test_an_unreadable_end_record_counts_for_nothing(ledger: Ledger, content: bytes) -> None:
    play(ledger, "failed", "done")
    path = ledger.attempts / "00017-002.end.json"
    path.write_bytes(content)
    (state,) = Ledger(ledger.directory).states([SHARD])
    # Its shard is done again, and the damage does not count against the shard.
    assert (state.status, state.num_attempts, state.num_used) == ("damaged", 2, 1)


def test_an_attempt_has_one_end(ledger: Ledger) -> None:
    """A worker that was believed dead cannot commit after its attempt was given up."""
    attempt = ledger.begin(17)
    assert ledger.give_up(17, 1, "lost", "no heartbeat")
    with pytest.raises(AttemptEndedError, match=r"00017-001\.end\.json"):
        commit(attempt)
    assert ledger.states([SHARD])[0].status == "lost"
    committed = ledger.begin(17)
    commit(committed)
    assert not ledger.give_up(17, 2, "lost", "no heartbeat")
    assert not ledger.give_up(17, 3, "lost", "it never began")
    assert ledger.states([SHARD])[0].status == "done"


def test_a_revoked_attempt_is_not_done_and_uses_up_no_budget(ledger: Ledger) -> None:
    play(ledger, "failed", "done")
    ledger.revoke(17, 2, "a byte is off")
    (state,) = ledger.states([SHARD])
    assert (state.status, state.num_attempts, state.num_used) == ("damaged", 2, 1)
    play(ledger, "done")
    assert ledger.states([SHARD])[0].status == "done"


def test_a_retry_grants_the_budget_again(ledger: Ledger) -> None:
    play(ledger, "failed", "lost", "failed")
    assert ledger.states([SHARD])[0].num_used == 3
    ledger.grant_retry(17, 3)
    (state,) = ledger.states([SHARD])
    assert (state.status, state.num_attempts, state.num_used) == ("failed", 3, 0)
    play(ledger, "failed")
    assert ledger.states([SHARD])[0].num_used == 1
    assert len(list(ledger.attempts.glob("*.end.json"))) == 3  # history is kept


def test_an_interrupted_attempt_uses_up_no_budget(ledger: Ledger) -> None:
    ledger.begin(17).interrupt(KeyboardInterrupt())
    (state,) = ledger.states([SHARD])
    assert (state.status, state.num_attempts, state.num_used) == ("pending", 1, 0)


@pytest.mark.parametrize("fault", ["missing file", "elsewhere", "not JSON"])
def test_an_attempt_whose_commit_fails_is_lost(ledger: Ledger, tmp_path: Path, fault: str) -> None:
    attempt = ledger.begin(17)
    inside, elsewhere = attempt.folder / "a", tmp_path.parent / f"{tmp_path.name}-elsewhere"
    inside.touch()
    elsewhere.touch()
    result = {
        "missing file": ShardResult({"a": inside, "b": attempt.folder / "b"}, 2),
        "elsewhere": ShardResult({"a": elsewhere}, 2),
        "not JSON": ShardResult({"a": inside}, 2, stats={"model": object()}),
    }[fault]
    with pytest.raises((OSError, ValueError, TypeError)):
        attempt.commit(result)
    attempt.release()
    assert ledger.states([SHARD])[0].status == "lost"
