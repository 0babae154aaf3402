"""The worst of several rotations is scored."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from sekd.data.predictions import PREDICTION_SCHEMA, scored_rows

ANSWERS = st.sampled_from([None, "right", "wrong", "other"])


def table(answers: dict[tuple[str, int], list[str | None]]) -> pa.Table:
    """Rows of (sample, level) -> the answer in each rotation, one rotation after another."""
    rows = [
        {
            "model": "m",
            "dataset": "d",
            "paradigm": "joint",
            "control": "circular",
            "rotation": rotation,
            "sample_id": sample,
            "level": level,
            "rank": "r",
            "options": ["right", "wrong", "other"],
            "truth": "right",
            "prediction": answer,
        }
        for (sample, level), rotations in answers.items()
        for rotation, answer in enumerate(rotations)
    ]
    rows.sort(key=lambda row: str(row["rotation"]))
    return pa.Table.from_pylist(rows, PREDICTION_SCHEMA)


@given(
    st.dictionaries(
        st.tuples(st.sampled_from("cab"), st.integers(1, 3)),
        st.lists(ANSWERS, min_size=1, max_size=4),
        min_size=1,
    )
)
def test_the_worst_rotation_counts(answers: dict[tuple[str, int], list[str | None]]) -> None:
    rows = scored_rows(table(answers)).to_pylist()
    assert len(rows) == len(answers)
    for row in rows:
        given = answers[row["sample_id"], row["level"]]
        wrong = [answer for answer in given if answer != "right"]
        if None in given:
            assert row["prediction"] is None
        elif wrong:
            assert row["prediction"] == wrong[0]
        else:
            assert (row["prediction"], row["rotation"]) == ("right", 0)


def test_without_rotations_nothing_changes() -> None:
    rows = table({("b", 1): ["right"], ("b", 2): [None], ("a", 1): ["wrong"]})
    assert scored_rows(rows) == rows


def test_an_empty_table_stays_empty() -> None:
    assert len(scored_rows(PREDICTION_SCHEMA.empty_table())) == 0
