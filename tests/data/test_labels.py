"""Tables of labels: read from any format, matched by id and content, counted where left out."""

from __future__ import annotations

import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from layouts import jpeg

from sekd.config import DatasetSpec
from sekd.data.images import image_sha256
from sekd.data.samples import Dataset
from sekd.errors import ConfigError

PATHS = '{"crow": ["bird", "corvids", "crow"], "gull": ["bird", "gulls", "gull"]}'


@pytest.fixture
def spec(tmp_path: Path) -> DatasetSpec:
    """Four images without labels."""
    (tmp_path / "t.json").write_text(PATHS)
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg())
    (tmp_path / "images.csv").write_text("image\n" + "".join(f"{n}.jpg\n" for n in range(4)))
    return DatasetSpec(taxonomy=tmp_path / "t.json", table=tmp_path / "images.csv")


def load(spec: DatasetSpec, labels: Path, **settings: float) -> Dataset:
    return Dataset.load("train", spec.model_copy(update={"labels": labels, **settings}))


def labels_of(dataset: Dataset) -> dict[str, str | None]:
    return {sample.id: sample.leaf and sample.leaf.id for sample in dataset.samples}


def test_a_label_is_a_leaf_by_its_name_or_a_node_by_its_id(
    spec: DatasetSpec, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(
        "sample_id,label,note\n2.jpg,Crow,sure\n0.jpg,bird/gulls/gull,\n1.jpg,bird/corvids,\n"
        "9.jpg,crow,\n"
    )
    with caplog.at_level(logging.INFO, logger="sekd"):
        dataset = load(spec, path)
    assert labels_of(dataset) == {
        "0.jpg": "bird/gulls/gull",
        "1.jpg": "bird/corvids",
        "2.jpg": "bird/corvids/crow",
    }
    assert "3 of 4 samples have one; left out: 1 without a row; 1 of its rows are" in caplog.text
    assert not dataset.has_model_labels


def test_a_label_belongs_to_an_image_of_the_same_content(
    spec: DatasetSpec, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = Dataset.load("train", spec).samples[0].image
    table = pa.table(
        {
            "sample_id": ["0.jpg", "1.jpg", "2.jpg"],
            "label": ["crow"] * 3,
            "image_sha256": [image_sha256(image), "0" * 64, None],
        }
    )
    pq.write_table(table, tmp_path / "labels.parquet")
    with caplog.at_level(logging.INFO, logger="sekd"):
        dataset = load(spec, tmp_path / "labels.parquet")
    assert list(labels_of(dataset)) == ["0.jpg", "2.jpg"]
    assert "1 without a row, 1 whose image is another one now" in caplog.text


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_a_floor_takes_the_sure_labels_alone(
    spec: DatasetSpec, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"labels{suffix}"
    rows = [("0.jpg", "crow", 0.9), ("1.jpg", "gull", 0.2), ("2.jpg", "gull", None)]
    if suffix == ".parquet":
        names = ("sample_id", "label", "probability")
        pq.write_table(pa.table(dict(zip(names, zip(*rows, strict=True), strict=True))), path)
    elif suffix == ".jsonl":
        path.write_text(
            '{"sample_id": "0.jpg", "label": "crow", "probability": 0.9}\n'
            '{"sample_id": "1.jpg", "label": "gull", "probability": "0.2"}\n'
            '{"sample_id": "2.jpg", "label": "gull"}\n'
        )
    else:
        mark = "," if suffix == ".csv" else "\t"
        lines = [("sample_id", "label", "probability"), *rows]
        path.write_text(
            "".join(mark.join("" if c is None else str(c) for c in line) + "\n" for line in lines)
        )
    assert list(labels_of(load(spec, path, min_confidence=0.5))) == ["0.jpg"]
    assert len(labels_of(load(spec, path))) == 3


@pytest.mark.parametrize(
    ("text", "floor", "message"),
    [
        ("id,label\n0.jpg,crow\n", 0.0, "labels.csv: no column sample_id; a table of labels has"),
        ("sample_id,label\n0.jpg,crow\n0.jpg,gull\n", 0.0, "the sample '0.jpg' is there twice"),
        ("sample_id,label\n0.jpg,crwo\n", 0.0, "sample '0.jpg': no leaf 'crwo' in .*mean 'crow'"),
        ("sample_id,label\n0.jpg,crow\n", 0.5, "no column probability for min_confidence 0.5"),
        ("sample_id,label,probability\n0.jpg,crow,7\n", 0.0, "of the sample '0.jpg' is 7; it must"),
        ("sample_id,label,probability\n0.jpg,crow,high\n", 0.0, "line 2: the probability 'high'"),
        (
            "sample_id,label\n0,crow\n",
            0.0,
            "no sample is left of 4: 4 without a row; its ids are like '0', and .* like '0.jpg'",
        ),
        ("sample_id,label\n0.jpg,\n", 0.0, "no sample is left of 4: 3 without a row, 1 with an"),
    ],
)
def test_a_table_that_is_wrong_is_refused(
    spec: DatasetSpec, tmp_path: Path, text: str, floor: float, message: str
) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load(spec, tmp_path / "labels.csv", min_confidence=floor)
