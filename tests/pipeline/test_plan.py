"""The plan: every sample in one shard, also after the data have changed and changed back."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import split

from sekd.data.shards import Shard
from sekd.errors import FatalError
from sekd.io.records import DamagedFileError
from sekd.pipeline.inputs import NewShard, SampleInputs, ShardInputs
from sekd.pipeline.plan import Plan, check_plan, find_plan, newest_revision, open_plan

Data = Mapping[str, tuple[str, str | None]]
"""Sample id -> content of its image and its label."""

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
DATA: st.SearchStrategy[Data] = st.dictionaries(
    TEXTS, st.tuples(st.sampled_from("xyz"), st.sampled_from(["gull", "pike", None])), max_size=12
)


def inputs_of(data: Data, shard_size: int = 2) -> SampleInputs:
    rows = list(data.items())
    images = SampleInputs.of_ids([sample_id for sample_id, _ in rows], shard_size)
    labels = pa.chunked_array([pa.array([label for _, (_, label) in rows], pa.string())])
    hashes = images.images.copy()
    hashes[:] = [image for _, (image, _) in rows]
    return SampleInputs(images.ids, images.places, hashes, labels, None, "", shard_size)


def flat(plan: Plan) -> list[str]:
    return [sample_id for shard in plan for sample_id in shard.sample_ids]


@pytest.mark.parametrize(
    ("num_samples", "shard_size", "sizes"),
    [(0, 3, []), (1, 3, [1]), (3, 3, [3]), (4, 3, [3, 1]), (7, 2, [2, 2, 2, 1]), (2, 1, [1, 1])],
)
def test_the_last_shard_may_be_shorter(
    tmp_path: Path, num_samples: int, shard_size: int, sizes: list[int]
) -> None:
    inputs = SampleInputs.of_ids([str(i) for i in range(num_samples)], shard_size)
    plan = open_plan(tmp_path, inputs)
    assert [len(shard.sample_ids) for shard in plan] == sizes
    assert [shard.index for shard in plan] == list(range(len(sizes)))
    assert (len(plan), plan.num_samples) == (len(sizes), num_samples)
    assert flat(plan) == inputs.ids.to_pylist()


@settings(deadline=None, max_examples=60)
@given(history=st.lists(DATA, min_size=1, max_size=5), shard_size=st.integers(1, 4))
def test_data_that_are_as_they_were_once_have_the_shards_that_they_had(
    tmp_path_factory: pytest.TempPathFactory, history: list[Data], shard_size: int
) -> None:
    directory = tmp_path_factory.mktemp("plan")
    plans = [open_plan(directory, inputs_of(data, shard_size)) for data in history]
    numbered: dict[int, Shard] = {}
    for data, plan in zip(history, plans, strict=True):
        assert sorted(flat(plan)) == sorted(data)  # each sample once
        assert all(0 < len(shard.sample_ids) <= shard_size for shard in plan)
        for shard in plan:  # a number is given once
            assert numbered.setdefault(shard.index, shard) == shard
    for data, plan in zip(history, plans, strict=True):
        assert find_plan(directory, inputs_of(data, shard_size)) == (plan, [])
    check_plan(directory)


@settings(deadline=None, max_examples=40)
@given(data=DATA.filter(bool), draw=st.data())
def test_only_shards_with_a_changed_sample_are_planned_again(
    tmp_path_factory: pytest.TempPathFactory, data: Data, draw: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("plan")
    before = open_plan(directory, inputs_of(data))
    changed = draw.draw(st.sampled_from(sorted(data)))
    after = open_plan(directory, inputs_of({**data, changed: ("new", "gull")}))
    assert {shard for shard in before if changed not in shard.sample_ids} <= set(after)
    assert len(after) == len(before)


A = {str(i): ("x", "gull") for i in range(6)}


def test_a_revision_says_which_shards_changed_and_why(tmp_path: Path) -> None:
    open_plan(tmp_path, inputs_of(A))
    changed: Data = {**A, "0": ("y", "gull"), "2": ("x", "pike"), "9": ("x", None)}
    without = {sample_id: row for sample_id, row in changed.items() if sample_id != "5"}
    open_plan(tmp_path, inputs_of(without))
    revision = newest_revision(tmp_path)
    assert revision is not None
    assert revision.superseded == [
        [0, "0 has another image"],
        [1, "2 has another label"],
        [2, "5 is gone"],
    ]
    assert (revision.num_samples, revision.num_added) == (6, 1)
    open_plan(tmp_path, inputs_of(without))
    assert newest_revision(tmp_path) == revision  # nothing has changed
    open_plan(tmp_path, inputs_of(A))
    back = newest_revision(tmp_path)
    assert back is not None
    assert (back.number, back.file, back.shards) == (2, None, {0, 1, 2})


def test_a_shard_of_an_earlier_stage_has_one_of_its_own(tmp_path: Path) -> None:
    before = open_plan(tmp_path, ShardInputs({"one": ("a", "b"), "two": ("c",)}))
    after = open_plan(tmp_path, ShardInputs({"other": ("a", "b"), "two": ("c",), "new": ("d",)}))
    assert [shard.key for shard in before] == ["one", "two"]
    assert [(shard.index, shard.key) for shard in after] == [(1, "two"), (2, "other"), (3, "new")]
    assert open_plan(tmp_path, ShardInputs({"one": ("a", "b"), "two": ("c",)})) == before


def test_shards_may_be_larger_than_a_batch_of_rows(tmp_path: Path) -> None:
    sizes = {"a": 200_000, "b": 1, "c": 700_000}
    inputs = ShardInputs(
        {key: tuple(f"{key}/{i}" for i in range(size)) for key, size in sizes.items()}
    )
    plan = open_plan(tmp_path, inputs)
    assert find_plan(tmp_path, inputs) == (plan, [])


def test_of_two_revisions_made_at_once_the_first_stored_one_wins(tmp_path: Path) -> None:
    inputs = inputs_of(A, 2)

    class Slower(SampleInputs):
        def marks(self, shard: NewShard) -> Mapping[str, Sequence[Any]]:
            open_plan(tmp_path, inputs)
            return super().marks(shard)

    others = inputs_of(A, 3)
    slower = Slower(
        others.ids, others.places, others.images, others.labels, None, "", others.shard_size
    )
    first = split(list(A), 2)
    assert [s.sample_ids for s in open_plan(tmp_path, slower)] == [s.sample_ids for s in first]
    assert len(list(tmp_path.glob("plan-*.json"))) == 1


@pytest.mark.parametrize("file", ["plan-00000.json", "plan-00000-*.parquet"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_plan_is_made_again_as_it_was(tmp_path: Path, file: str, damage: str) -> None:
    plan = open_plan(tmp_path, inputs_of(A))
    (path,) = tmp_path.glob(file)
    before = content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-1] if damage == "cut" else content[:-9] + b"?" + content[-8:])
    if (file, damage) != ("plan-00000.json", "gone"):
        with pytest.raises(DamagedFileError) as error:
            check_plan(tmp_path)
        assert error.value.path == path
    assert open_plan(tmp_path, inputs_of(A)) == plan
    assert path.read_bytes() == before


def test_a_damaged_plan_is_not_replaced_by_another(tmp_path: Path) -> None:
    open_plan(tmp_path, inputs_of(A))
    next(tmp_path.glob("plan-*.parquet")).write_bytes(b"PAR1")
    with pytest.raises(FatalError, match=r"set runtime\.shard_size and the data to what they were"):
        open_plan(tmp_path, inputs_of(A, 3))


def test_a_revision_that_is_gone_below_another_is_found(tmp_path: Path) -> None:
    open_plan(tmp_path, inputs_of(A))
    grown = inputs_of({**A, "9": ("x", None)})
    plan = open_plan(tmp_path, grown)
    kept = tmp_path / "kept"
    shutil.move(tmp_path / "plan-00000.json", kept)
    with pytest.raises(DamagedFileError, match=r"plan-00000\.json: is gone"):
        check_plan(tmp_path)
    with pytest.raises(FatalError, match="is gone; it cannot be made again"):
        open_plan(tmp_path, grown)
    shutil.move(kept, tmp_path / "plan-00000.json")
    assert open_plan(tmp_path, grown) == plan
