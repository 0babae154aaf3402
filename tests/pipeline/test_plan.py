"""The plan: every sample in one shard, in order, the same after storing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sekd.data.shards import Shard
from sekd.errors import FatalError
from sekd.io.records import DamagedFileError
from sekd.pipeline.plan import Plan, open_plan, read_plan

IDS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), unique=True)


def flat(plan: Plan) -> list[str]:
    return [sample_id for shard in plan for sample_id in shard.sample_ids]


@pytest.mark.parametrize(
    ("num_samples", "shard_size", "sizes"),
    [(0, 3, []), (1, 3, [1]), (3, 3, [3]), (4, 3, [3, 1]), (7, 2, [2, 2, 2, 1]), (2, 1, [1, 1])],
)
def test_the_last_shard_may_be_shorter(num_samples: int, shard_size: int, sizes: list[int]) -> None:
    plan = Plan.split([str(i) for i in range(num_samples)], shard_size)
    assert [len(shard.sample_ids) for shard in plan] == sizes
    assert [shard.index for shard in plan] == list(range(len(sizes)))
    assert (len(plan), plan.num_samples) == (len(sizes), num_samples)


@settings(deadline=None)
@given(ids=IDS, shard_size=st.integers(1, 9))
def test_every_sample_is_in_one_shard_in_order(ids: list[str], shard_size: int) -> None:
    plan = Plan.split(ids, shard_size)
    assert flat(plan) == ids
    assert all(len(shard.sample_ids) == shard_size for shard in plan.shards[:-1])


@settings(deadline=None)
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
def test_a_plan_is_read_back_from_parquet(
    ids: list[str], shard_size: int, data: st.DataObject
) -> None:
    gone = data.draw(st.sets(st.sampled_from(ids))) if ids else set()
    plan = Plan.split(ids, shard_size).without(gone)
    assert Plan.from_parquet(plan.to_parquet()) == plan


def test_shards_may_be_larger_than_a_batch_of_rows() -> None:
    sizes = {3: 200_000, 4: 1, 123_456: 700_000}
    plan = Plan(
        tuple(
            Shard(index, tuple(f"{index}/{i}" for i in range(size)))
            for index, size in sizes.items()
        )
    )
    assert Plan.from_parquet(plan.to_parquet()) == plan


PLAN = Plan.split(list("abcde"), 2)


def never() -> Plan:
    pytest.fail("made another plan")


def test_a_stored_plan_is_kept(tmp_path: Path) -> None:
    assert open_plan(tmp_path, lambda: PLAN) == PLAN
    assert open_plan(tmp_path, never) == read_plan(tmp_path) == PLAN


def test_of_two_plans_made_at_once_the_first_stored_one_wins(tmp_path: Path) -> None:
    def lose_the_race() -> Plan:
        open_plan(tmp_path, lambda: PLAN)
        return Plan.split(list("abcde"), 3)

    assert open_plan(tmp_path, lose_the_race) == PLAN
    assert read_plan(tmp_path) == PLAN


@pytest.mark.parametrize("file", ["plan.json", "plan-*.parquet"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_plan_is_made_again_as_it_was(tmp_path: Path, file: str, damage: str) -> None:
    open_plan(tmp_path, lambda: PLAN)
    (path,) = tmp_path.glob(file)
    before = content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-1] if damage == "cut" else content[:-9] + b"?" + content[-8:])
    if (file, damage) != ("plan.json", "gone"):
        with pytest.raises(DamagedFileError) as error:
            read_plan(tmp_path)
        assert error.value.path == path
    assert open_plan(tmp_path, lambda: PLAN) == PLAN
    assert path.read_bytes() == before


def test_a_damaged_plan_is_not_replaced_by_another(tmp_path: Path) -> None:
    open_plan(tmp_path, lambda: PLAN)
    next(tmp_path.glob("plan-*.parquet")).write_bytes(b"PAR1")
    with pytest.raises(FatalError, match=r"set runtime\.shard_size to what it was"):
        open_plan(tmp_path, lambda: Plan.split(list("abcde"), 3))
