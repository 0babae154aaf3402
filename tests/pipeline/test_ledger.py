"""The ledger: attempts are numbered on disk, and a shard's status follows from records alone."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sekd.data.hashing import hash_file
from sekd.data.shards import Quarantined, Shard, ShardResult
from sekd.errors import FatalError, ShardError
from sekd.pipeline.ledger import Attempt, Ledger

SHARD = Shard(17, ("a", "b"))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path)


def commit(attempt: Attempt, text: str = "data") -> None:
    path = attempt.folder / "answers.txt"
    path.write_text(text)
    attempt.commit(ShardResult({"answers": path}, len(SHARD.sample_ids)))


def play(ledger: Ledger, *events: str) -> None:
    """One attempt per event: "done", "failed", or "lost" for a process that died on it."""
    for event in events:
        attempt = ledger.begin(SHARD.index)
        if event == "done":
            commit(attempt, attempt.name)
        elif event == "failed":
            attempt.fail(ShardError(attempt.name))


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
    for reader in (ledger, Ledger(ledger.directory)):  # nothing is kept in memory
        (state,) = reader.states([SHARD])
        assert (state.status, state.num_attempts) == (status, len(events))
        assert (state.record and state.record["attempt"]) == last_record


def test_states_come_in_the_order_asked_for(ledger: Ledger) -> None:
    play(ledger, "done")
    ledger.begin(3)
    states = ledger.states([Shard(i, ("x",)) for i in (3, 17, 1)])
    assert [state.status for state in states] == ["lost", "done", "pending"]


def test_an_end_record_says_what_was_done(ledger: Ledger) -> None:
    attempt = ledger.begin(17)
    path = attempt.folder / "answers.txt"
    path.write_text("é")
    quarantined = [Quarantined("b", "no picture: bär.jpg", level=2)]
    attempt.commit(ShardResult({"answers": path}, 1, quarantined, {"seconds": 1.5}))
    record = json.loads((ledger.attempts / "00017-001.end.json").read_text("utf-8"))
    assert record.pop("started") <= record.pop("ended")
    assert record == {
        "shard": 17,
        "attempt": 1,
        "status": "done",
        "files": [
            {
                "role": "answers",
                "path": "data/00017-001/answers.txt",  # relative: a stage can be moved
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


def test_a_number_is_claimed_by_one_process_only(ledger: Ledger) -> None:
    with ThreadPoolExecutor(8) as pool:
        # A ledger each, as two runs of one stage would have.
        begun = list(pool.map(lambda _: Ledger(ledger.directory).begin(17).number, range(24)))
    assert sorted(begun) == list(range(1, 25))


@pytest.mark.parametrize("shard", [100_000, 1_234_567])
def test_names_may_outgrow_their_digits(ledger: Ledger, shard: int) -> None:
    (ledger.attempts / f"{shard}-999.start.json").touch()
    attempt = ledger.begin(shard)
    assert attempt.name == f"{shard}-1000"
    commit(attempt)
    assert ledger.begin(shard).number == 1001  # after 1000 by number, not by name
    assert ledger.begin(shard % 100_000).number == 1  # whose name ends like the other's
    big, small = ledger.states([Shard(shard, ("x",)), Shard(shard % 100_000, ("x",))])
    assert (big.status, big.num_attempts) == ("done", 1001)
    assert (small.status, small.num_attempts) == ("lost", 1)


def test_half_written_files_do_not_count(ledger: Ledger) -> None:
    play(ledger, "lost")
    (ledger.attempts / ".00017-001.end.json.0f3a.tmp").write_text('{"status": "do')
    (ledger.data / "00017-001" / "answers.txt").write_text("all of it, but never committed")
    (state,) = ledger.states([SHARD])
    assert state.status == "lost"


def test_an_empty_start_record_is_an_attempt(ledger: Ledger) -> None:
    # The process died between creating and writing it.
    (ledger.attempts / "00017-001.start.json").touch()
    assert ledger.states([SHARD])[0].status == "lost"
    assert ledger.begin(17).number == 2


@pytest.mark.parametrize(
    "content", [b"", b'{"status": "do', b"{}", b"[]", b"null", b'"status"', b"\xff"]
)
def test_an_unreadable_end_record_stops_the_run(ledger: Ledger, content: bytes) -> None:
    play(ledger, "failed", "done")
    path = ledger.attempts / "00017-002.end.json"
    path.write_bytes(content)
    with pytest.raises(FatalError, match=str(path)):
        ledger.states([SHARD])


def test_a_reader_sees_all_of_a_record_or_nothing(ledger: Ledger) -> None:
    path = ledger.attempts / "00017-001.end.json"
    ledger.write_record(path.name, {"status": "failed"})
    with path.open() as file:
        ledger.write_record(path.name, {"status": "done"})
        assert json.load(file) == {"status": "failed"}  # the old file, not the new one half way
    assert json.loads(path.read_text("utf-8")) == {"status": "done"}
    assert list(ledger.attempts.iterdir()) == [path]


@pytest.mark.parametrize("fault", ["missing file", "elsewhere", "not JSON"])
def test_nothing_is_committed_where_committing_fails(
    ledger: Ledger, tmp_path: Path, fault: str
) -> None:
    attempt = ledger.begin(17)
    inside, elsewhere = attempt.folder / "a", tmp_path.parent / f"{tmp_path.name}-elsewhere"
    inside.touch()
    elsewhere.touch()
    result = {
        "missing file": ShardResult({"a": inside, "b": attempt.folder / "b"}, 2),
        "elsewhere": ShardResult({"a": elsewhere}, 2),
        "not JSON": ShardResult({"a": inside}, 2, figures={"model": object()}),
    }[fault]
    with pytest.raises((OSError, ValueError, TypeError)):
        attempt.commit(result)
    assert ledger.states([SHARD])[0].status == "lost"
