"""Reads the probabilities of all children along a descent's path from a table of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sekd.errors import ConfigError

_COLUMNS = ("level", "children", "probabilities")


def has_children(path: Path) -> bool:
    """Tell whether a table of labels holds the children of each level with their probabilities.

    Only Parquet files can, as :data:`sekd.data.labels.LABEL_SCHEMA` has them.
    """
    if path.suffix != ".parquet":
        return False
    schema = pq.read_schema(path)
    if "levels" not in schema.names or not pa.types.is_list(schema.field("levels").type):
        return False
    level = schema.field("levels").type.value_type
    return pa.types.is_struct(level) and all(level.get_field_index(n) >= 0 for n in _COLUMNS)


class ChildProbabilities:
    """Maps a sample to the probabilities of all children at each level of its descent.

    Args:
        paths: tables that :func:`has_children`, together one.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._source = ", ".join(map(str, paths[:1]))
        tables = [pq.read_table(path, columns=["sample_id", "levels"]) for path in paths]
        table = pa.concat_tables(tables)
        self._levels = table["levels"]
        sample_ids = table["sample_id"].cast(pa.string()).to_pylist()
        self._rows = {sample_id: row for row, sample_id in enumerate(sample_ids)}

    def __contains__(self, sample_id: object) -> bool:
        return sample_id in self._rows

    def of(self, sample_id: str) -> Mapping[int, Mapping[str, float]]:
        """Return, for each level from 0 for the first one below the root: node id -> probability.

        It is empty for a sample that is not in the table.

        Raises:
            ConfigError: if a level has more children than probabilities, or fewer.
        """
        if sample_id not in self._rows:
            return {}
        levels = self._levels[self._rows[sample_id]].as_py() or []
        for level in levels:
            children, probabilities = (level[name] or [] for name in _COLUMNS[1:])
            if len(children) != len(probabilities):
                raise ConfigError(
                    f"{self._source}: sample {sample_id!r}, level {level['level']}: "
                    f"{len(children)} children, but {len(probabilities)} probabilities"
                )
        return {
            level["level"] - 1: dict(zip(level["children"], level["probabilities"], strict=True))
            for level in levels
            if level["children"]
        }
