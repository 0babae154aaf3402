"""The drawn world has reproducible files, disjoint names and balanced leaves."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from sekd.config import DatasetSpec, load_config
from sekd.data.images import read_image
from sekd.data.samples import Dataset
from sekd.data.taxonomy import Taxonomy
from sekd.data.toyworld import (
    IMAGE_SIZE,
    PRACTICE,
    RANKS,
    SEEN,
    UNSEEN,
    WORLDS,
    World,
    draw,
    write_dataset,
    write_world,
)

for_both_worlds = pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
for_all_worlds = pytest.mark.parametrize(
    "world", [*WORLDS.values(), PRACTICE], ids=lambda world: world.name
)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_same_arguments_write_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in {"first": 3, "again": 3, "other": 4}.items():
        write_dataset(SEEN, tmp_path / name, num_images=8, seed=seed)
    first, again, other = (contents(tmp_path / name) for name in ("first", "again", "other"))
    assert first == again
    images = {content for name, content in first.items() if name.endswith(".png")}
    assert len(images) == 8
    assert not images & set(other.values())


@for_both_worlds
@pytest.mark.parametrize("num_images", [5, 83])
def test_written_folders_load_and_are_balanced(
    tmp_path: Path, world: World, num_images: int
) -> None:
    write_dataset(world, tmp_path, num_images=num_images, seed=0)
    spec = DatasetSpec(
        taxonomy=tmp_path / "taxonomy.json", images=tmp_path / "images", level_names=RANKS
    )
    dataset = Dataset.load("toy", spec)
    counts = Counter(sample.leaf.name for sample in dataset.samples if sample.leaf)
    assert sum(counts.values()) == len(dataset.samples) == num_images
    assert len(counts) == min(num_images, 81)
    assert max(counts.values()) == (2 if num_images > 81 else 1)
    assert read_image(dataset.samples[0].image).size == (IMAGE_SIZE, IMAGE_SIZE)


def test_worlds_share_no_name_and_no_first_letter() -> None:
    names = [set(world.names.values()) for world in (SEEN, UNSEEN, PRACTICE)]
    assert list(map(len, names)) == [1 + 3 + 9 + 27 + 81] * 2 + [1 + 2 + 6 + 12 + 36]
    letters = [{name[0] for name in world_names} for world_names in names]
    assert not any(a & b for a, b in itertools.combinations(letters, 2))


def test_nothing_is_written_or_evaluated_of_the_world_for_practice(tmp_path: Path) -> None:
    assert PRACTICE not in WORLDS.values()
    write_world(tmp_path / "world", num_train=2, num_test=2, seed=0)
    texts = [path.read_text("utf-8") for path in tmp_path.rglob("*.json")]
    assert len(texts) == 3
    assert not any(name in text for name in PRACTICE.names.values() for text in texts)


@for_both_worlds
def test_taxonomy_has_three_children_everywhere(world: World) -> None:
    taxonomy = Taxonomy.from_paths(world.taxonomy(), level_names=RANKS)
    assert taxonomy.root.rank == "kingdom"
    assert Counter(len(taxonomy.children(node)) for node in taxonomy.nodes) == {3: 40, 0: 81}


@for_all_worlds
@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_every_level_can_be_seen(world: World, level: int) -> None:
    images = []
    for choice in (0, 1):
        leaf = [1, 1, 1, 1]
        leaf[level - 1] = choice
        # The same generator gives the same jitter and noise, so only the attribute differs.
        image = draw(world, (leaf[0], leaf[1], leaf[2], leaf[3]), random.Random(0))
        images.append(np.asarray(image, dtype=int))
    share_changed = (np.abs(images[0] - images[1]).max(axis=2) > 25).mean()
    assert share_changed > 0.03


def test_written_world_has_a_config_that_loads_its_datasets(tmp_path: Path) -> None:
    write_world(tmp_path / "world", num_train=6, num_test=4, seed=5)
    config = load_config(tmp_path / "world/config.yaml")
    datasets = {name: Dataset.load(name, spec) for name, spec in config.data.items()}
    counts = {name: len(dataset.samples) for name, dataset in datasets.items()}
    assert counts == {"train": 6, "seen": 4, "unseen": 4}
    assert {config.elicit.dataset, *config.evaluate.datasets} <= set(counts)
    train = {sample.image.read_bytes() for sample in datasets["train"].samples}
    assert not train & {sample.image.read_bytes() for sample in datasets["seen"].samples}


def test_the_unlabelled_config_knows_the_training_images_without_a_label(tmp_path: Path) -> None:
    write_world(tmp_path / "world", num_train=6, num_test=4, seed=5)
    config = load_config(tmp_path / "world/unlabelled.yaml")
    assert config.elicit.dataset not in config.evaluate.datasets
    photographs = Dataset.load("photographs", config.data[config.elicit.dataset])
    assert photographs.spec.options == "children"
    assert [sample.leaf for sample in photographs.samples] == [None] * 6
    labelled = load_config(tmp_path / "world/config.yaml")
    train = Dataset.load("train", labelled.data["train"])
    images = [
        {sample.image.read_bytes() for sample in each.samples} for each in (photographs, train)
    ]
    assert images[0] == images[1]
    assert labelled.data["seen"] == config.data["seen"]
