"""Every source of the registry keeps to the contract of the base class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import layouts
import pytest

from sekd.config import DatasetSpec
from sekd.data.image_refs import ImageRef
from sekd.data.sources import SOURCES
from sekd.errors import ConfigError

COPIES: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "folder": (layouts.write_grocery, "", {"split": "train", "taxonomy": Path("folders")}),
    "table": (layouts.write_grocery, "t.csv", {"image_column": "image"}),
    "list": (layouts.write_grocery, "train.txt", {}),
    "huggingface": (layouts.write_hub_parquet, "", {"split": "train"}),
    "webdataset": (layouts.write_webdataset, "", {}),
    "inat21": (layouts.write_inat21, "", {"split": "val"}),
    "cub200": (layouts.write_cub, "", {"split": "train"}),
    "food101": (layouts.write_food101, "", {"split": "test"}),
    "imagenet": (layouts.write_imagenet, "", {"split": "val"}),
    "aircraft": (layouts.write_aircraft, "", {"split": "train"}),
    "cifar100": (layouts.write_cifar100, "", {"split": "train"}),
}


def test_every_source_has_a_copy() -> None:
    assert COPIES.keys() == SOURCES.keys()


def _spec(name: str, root: Path) -> DatasetSpec:
    write, file, settings = COPIES[name]
    write(root)
    if name == "table":
        image = next(root.rglob("*.jpg")).relative_to(root)
        (root / file).write_text(f"image,label\n{image},Avocado\n")
    setting = SOURCES[name].setting
    return DatasetSpec(
        **{"taxonomy": Path("t.json"), "layout": name, setting: root / file} | settings
    )


@pytest.mark.parametrize("name", SOURCES)
def test_rows_are_columns_of_one_length_with_images_that_exist(tmp_path: Path, name: str) -> None:
    spec, source = _spec(name, tmp_path / "data"), SOURCES[name]
    ids: list[str] = []
    for rows in source.read_rows(spec):
        images = rows.ids if rows.images is None else rows.images
        assert len(rows.ids) == len(images) == len(rows.labels) == len(rows.numbers)
        ids += rows.ids
        for image, label, number in zip(images, rows.labels, rows.numbers, strict=True):
            assert label
            assert "/" not in label or source.labels_are_paths or name == "aircraft"
            assert ImageRef.parse(image, source.image_root(spec)).read_bytes()
            assert str(tmp_path) in source.place(spec, number)
    assert ids
    assert len(set(ids)) == len(ids)
    again = [i for rows in source.read_rows(spec) for i in rows.ids]
    assert again == ids


@pytest.mark.parametrize("name", SOURCES)
def test_a_taxonomy_of_its_own_has_the_classes_as_labels(tmp_path: Path, name: str) -> None:
    spec, source = _spec(name, tmp_path / "data"), SOURCES[name]
    labels = {label for rows in source.read_rows(spec) for label in rows.labels}
    try:
        leaves = source.leaf_paths(spec)
    except ConfigError as error:
        assert "taxonomy" in str(error)  # noqa: PT017  a layout without one says what to give
    else:
        assert labels <= {leaf.label for leaf in leaves}


@pytest.mark.parametrize("name", SOURCES)
def test_what_is_not_there_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    _, _, settings = COPIES[name]
    setting = SOURCES[name].setting
    missing = tmp_path / "missing.csv"
    spec = DatasetSpec(**{"taxonomy": Path("t.json"), "layout": name, setting: missing} | settings)
    with pytest.raises(ConfigError, match=r"missing\.csv"):
        list(SOURCES[name].read_rows(spec))
