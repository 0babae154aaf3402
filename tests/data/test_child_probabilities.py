"""The probabilities of all children in tables of labels, those of sekd and those of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sekd.data.child_probabilities import ChildProbabilities, has_children
from sekd.data.labels import LABEL_SCHEMA
from sekd.errors import ConfigError


def write(path: Path, *rows: dict[str, Any]) -> Path:
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def level(number: int, **children: float) -> dict[str, Any]:
    return {
        "level": number,
        "children": list(children),
        "probabilities": list(children.values()),
    }


def test_a_table_of_sekd_has_children(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    pq.write_table(LABEL_SCHEMA.empty_table(), path)
    assert has_children(path)
    assert not ChildProbabilities([path]).of("a")


def test_tables_without_them_have_none(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("sample_id,label,levels\n1,robin,2\n", "utf-8")
    assert not has_children(tmp_path / "labels.csv")
    row = {"sample_id": "1", "label": "robin"}
    for number, levels in enumerate(({}, {"levels": 3}, {"levels": [{"level": 1}]})):
        assert not has_children(write(tmp_path / f"{number}.parquet", row | levels))


def test_they_are_read_from_several_tables_by_sample(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "0.parquet", {"sample_id": 7, "levels": [level(1, a=0.75, b=0.25)]}),
        write(
            tmp_path / "1.parquet", {"sample_id": 8, "levels": [level(1, b=1.0), level(3, c=0.5)]}
        ),
    ]
    assert all(map(has_children, paths))
    children = ChildProbabilities(paths)
    assert "7" in children
    assert "9" not in children
    assert children.of("7") == {0: {"a": 0.75, "b": 0.25}}
    assert children.of("8") == {0: {"b": 1.0}, 2: {"c": 0.5}}
    assert children.of("9") == {}


def test_a_level_with_too_few_probabilities_is_named(tmp_path: Path) -> None:
    wrong = level(2, a=0.5, b=0.5) | {"probabilities": [0.5]}
    path = write(tmp_path / "labels.parquet", {"sample_id": "1", "levels": [wrong]})
    with pytest.raises(ConfigError, match=r"sample '1', level 2: 2 children, but 1 probabilities"):
        ChildProbabilities([path]).of("1")
