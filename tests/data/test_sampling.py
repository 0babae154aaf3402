"""A draw of a dataset is even over its leaves, and the same for everyone who asks."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sekd.config import DatasetSpec
from sekd.data.samples import Dataset


def drawn_ids(dataset: Dataset, num: int, seed: int = 0) -> list[str]:
    return [sample.id for sample in dataset.draw(num, seed).samples]


def labelled_dataset(tmp_path: Path, num_per_leaf: dict[str, int], **settings: Any) -> Dataset:
    """A dataset of that many samples of each leaf, the leaves one after another as in folders."""
    rows = [
        {"image": f"image {leaf}{number}", "label": leaf}
        for leaf, num in num_per_leaf.items()
        for number in range(num)
    ]
    table = tmp_path / "images.jsonl"
    table.write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "taxonomy.json").write_text(
        json.dumps({leaf: ["r", leaf[0], leaf] for leaf in num_per_leaf if leaf})
    )
    spec = DatasetSpec(taxonomy=tmp_path / "taxonomy.json", table=table, **settings)
    return Dataset.load("drawn", spec)


@given(
    st.dictionaries(st.text("abc", min_size=2, max_size=3), st.integers(1, 9), min_size=2),
    st.integers(1, 40),
    st.integers(0, 3),
)
def test_a_draw_takes_the_share_of_every_leaf(
    tmp_path_factory: pytest.TempPathFactory, num_per_leaf: dict[str, int], num: int, seed: int
) -> None:
    dataset = labelled_dataset(tmp_path_factory.mktemp("drawn"), num_per_leaf)
    drawn = dataset.draw(num, seed)
    assert len(drawn.samples) == min(num, len(dataset.samples))
    ids = [sample.id for sample in dataset.samples]
    positions = [ids.index(sample.id) for sample in drawn.samples]
    assert positions == sorted(set(positions))
    share = len(drawn.samples) / len(dataset.samples)
    counts = Counter(sample.leaf.name for sample in drawn.samples if sample.leaf)
    for leaf, num_there in num_per_leaf.items():
        assert abs(counts[leaf] - share * num_there) < 1
    assert drawn_ids(dataset, num, seed) == drawn_ids(dataset, num, seed)


def test_every_sample_has_the_same_chance_to_be_drawn(tmp_path: Path) -> None:
    dataset = labelled_dataset(tmp_path, {"aa": 1, "ab": 7, "ba": 4})
    counts = Counter(sample for seed in range(2000) for sample in drawn_ids(dataset, 3, seed))
    assert len(counts) == 12
    assert min(counts.values()) > 420  # 500 are expected
    assert max(counts.values()) < 580


def test_a_draw_of_all_or_more_changes_nothing(tmp_path: Path) -> None:
    dataset = labelled_dataset(tmp_path, {"aa": 1, "ab": 1})
    assert dataset.draw(2, 0) is dataset.draw(99, 0) is dataset
    assert dataset.draw(1, 0).taxonomy is dataset.taxonomy


def test_samples_without_a_label_are_drawn_too(tmp_path: Path) -> None:
    dataset = labelled_dataset(tmp_path, {"aa": 2, "": 2}, options="children")
    counts = Counter(sample.leaf is None for sample in dataset.draw(2, 0).samples)
    assert counts == {True: 1, False: 1}


def test_a_draw_of_500_images_of_cub_holds_every_species(shared_data: Path) -> None:
    """The first 500 in the order of the table hold 20 of the 200."""
    spec = DatasetSpec(
        taxonomy=shared_data / "taxonomies/hierarchy_CUB200.json",
        table=shared_data / "annotations/CUB200_with_random_choice.jsonl",
    )
    dataset = Dataset.load("cub", spec)
    first = {sample.leaf for sample in dataset.samples[:500]}
    drawn = {sample.leaf for sample in dataset.draw(500, 0).samples}
    assert (len(first), len(drawn)) == (20, 200)
    kept = dataset.draw(500, 0).samples[7]
    assert kept in dataset.samples.named([kept.id])  # with its own options
