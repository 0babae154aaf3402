"""Layouts of datasets: which source reads a dataset, and what the setting changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sekd.config import DatasetSpec
from sekd.data import sources
from sekd.data.image_refs import ImageRef
from sekd.data.samples import Dataset, Sample, load_samples
from sekd.data.sources import SOURCES, source_of
from sekd.data.sources.base import Rows, Source
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError
from sekd.io.hashing import digest

BIRDS = Taxonomy.from_paths({"crow": ["bird", "crow"], "robin": ["bird", "robin"]})


def spec(**settings: Any) -> DatasetSpec:
    return DatasetSpec(taxonomy=Path("t.json"), **settings)


def test_the_default_layout_follows_from_the_setting_that_is_given() -> None:
    assert source_of(spec(images=Path("images"))) is SOURCES["folder"]
    assert source_of(spec(table=Path("t.csv"))) is SOURCES["table"]
    assert source_of(spec(images=Path("images"), layout="folder")) is SOURCES["folder"]
    assert source_of(spec(table=Path("t.csv"), layout="table")) is SOURCES["table"]


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("foldr", "^images: unknown layout 'foldr'; did you mean folder[?]$"),
        ("xyz", "^images: unknown layout 'xyz'; known: folder, table"),
        ("table", "^images: the layout 'table' reads `table`; give that setting"),
    ],
)
def test_a_layout_that_cannot_be_read_is_refused(layout: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_samples(spec(images=Path("images"), layout=layout), BIRDS)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"images": Path("images")},
            "6c4c041d594f037426ec4e3c9c9fc6fc9d31c1c63cff20ae1502050c3be62f9e",
        ),
        (
            {"table": Path("t.csv")},
            "51e50d7b82299bedafec5710c3c1a114d2177148731cc70e07cd85d0a4409428",
        ),
    ],
)
def test_a_dataset_without_a_layout_keeps_its_digest(
    settings: dict[str, Path], expected: str
) -> None:
    """Pinned from before there was such a setting: the dump is part of every fingerprint."""
    assert digest(spec(**settings).model_dump(mode="json")) == expected
    assert digest(spec(**settings, layout="folder").model_dump(mode="json")) != expected


class ListedSource(Source):
    """A layout with one file, whose lines are a label and the name of an image."""

    def read_rows(self, spec: DatasetSpec) -> Iterator[Rows]:
        lines = (self.image_root(spec) / "list.txt").read_text("utf-8").splitlines()
        pairs = [line.split() for line in lines]
        yield Rows(
            ids=[image for _, image in pairs],
            images=[f"files/{image}" for _, image in pairs],
            labels=[label for label, _ in pairs],
            numbers=range(1, len(lines) + 1),
        )

    def place(self, spec: DatasetSpec, number: int) -> str:
        return f"{self.image_root(spec) / 'list.txt'}, line {number}"


def test_a_registered_layout_is_read_like_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "SOURCES", {**SOURCES, "listed": ListedSource()})
    (tmp_path / "list.txt").write_text("robin 2.png\ncrow 1.png\n", encoding="utf-8")
    (tmp_path / "t.csv").write_text("class,species\nbird,crow\nbird,robin\n", encoding="utf-8")
    listed = DatasetSpec(taxonomy=tmp_path / "t.csv", images=tmp_path, layout="listed")
    dataset = Dataset.load("birds", listed)
    assert list(dataset.samples) == [
        Sample("2.png", ImageRef(tmp_path / "files/2.png"), dataset.taxonomy["bird/robin"]),
        Sample("1.png", ImageRef(tmp_path / "files/1.png"), dataset.taxonomy["bird/crow"]),
    ]
    (tmp_path / "list.txt").write_text("robin 2.png\ncrow 2.png\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"line 2: the sample id '2.png' .* that of .*line 1"):
        Dataset.load("birds", listed)
