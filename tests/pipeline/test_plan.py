"""The plan: every sample in one shard, in order, the same after storing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sekd.data.shards import Shard
from sekd.pipeline.plan import Plan

IDS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), unique=True)


def flat(plan: Plan) -> list[str]:
    return [sample_id for shard in plan for sample_id in shard.sample_ids]


@pytest.mark.parametrize(
    ("num_samples", "shard_size", "sizes"),
    [(0, 3, []), (1, 3, [1]), (3, 3, [3]), (4, 3, [3, 1]), (7, 2, [2, 2, 2, 1]), (2, 1, [1, 1])],
)
def test_split(num_samples: int, shard_size: int, sizes: list[int]) -> None:
    plan = Plan.split([str(i) for i in range(num_samples)], shard_size)
    assert [len(shard.sample_ids) for shard in plan] == sizes
    assert [shard.index for shard in plan] == list(range(len(sizes)))
    assert (len(plan), plan.num_samples) == (len(sizes), num_samples)


@given(ids=IDS, shard_size=st.integers(1, 9))
def test_every_sample_is_in_one_shard_in_order(ids: list[str], shard_size: int) -> None:
    plan = Plan.split(ids, shard_size)
    assert flat(plan) == ids
    assert all(len(shard.sample_ids) == shard_size for shard in plan.shards[:-1])


@given(ids=IDS, shard_size=st.integers(1, 4), data=st.data())
def test_without_keeps_indices_and_order(
    ids: list[str], shard_size: int, data: st.DataObject
) -> None:
    gone = data.draw(st.sets(st.sampled_from(ids))) if ids else set()
    before = Plan.split(ids, shard_size)
    after = before.without(gone)
    assert flat(after) == [sample_id for sample_id in ids if sample_id not in gone]
    assert all(shard.sample_ids for shard in after)
    for shard in after:  # states are joined to answers by shard index
        assert set(shard.sample_ids) <= set(before.shards[shard.index].sample_ids)


@settings(max_examples=20, deadline=None)
@given(ids=IDS, shard_size=st.integers(1, 4), data=st.data())
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], shard_size: int, data: st.DataObject
) -> None:
    gone = data.draw(st.sets(st.sampled_from(ids))) if ids else set()
    path = tmp_path_factory.mktemp("plan") / "plan.parquet"
    plan = Plan.split(ids, shard_size).without(gone)
    plan.write(path)
    assert Plan.read(path) == plan
    assert list(path.parent.iterdir()) == [path]  # nothing temporary is left


def test_a_plan_is_there_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_half(table: object, where: Path) -> None:
        where.write_bytes(b"PAR1 half")
        raise OSError("no space left")

    monkeypatch.setattr("sekd.pipeline.plan.pq.write_table", write_half)
    with pytest.raises(OSError, match="no space"):
        Plan.split(["a"], 1).write(tmp_path / "plan.parquet")
    assert not (tmp_path / "plan.parquet").exists()


def test_writing_replaces_what_a_killed_process_left(tmp_path: Path) -> None:
    (tmp_path / "plan.tmp").write_bytes(b"PAR1 half")
    plan = Plan((Shard(3, ("a", "b")), Shard(123_456, ("c",))))
    plan.write(tmp_path / "plan.parquet")
    assert Plan.read(tmp_path / "plan.parquet") == plan
