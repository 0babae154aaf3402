"""Names on disk: they are pinned, because runs on every disk have them, and they are read back."""

from __future__ import annotations

from typing import get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from sekd.pipeline.names import (
    RecordKind,
    attempt_name,
    attempt_of_data_folder,
    log_name,
    new_data_folder,
    parse_record_name,
    record_name,
)


def test_names_are_pinned() -> None:
    assert attempt_name(17, 2) == "00017-002"
    assert record_name(17, 2, "end") == "00017-002.end.json"
    assert log_name(17, 2) == "00017-002.jsonl"


@settings(deadline=None)
@given(shard=st.integers(0), number=st.integers(1), kind=st.sampled_from(get_args(RecordKind)))
def test_names_are_read_back(shard: int, number: int, kind: RecordKind) -> None:
    assert parse_record_name(record_name(shard, number, kind)) == (shard, number, kind)
    assert attempt_of_data_folder(new_data_folder(shard, number)) == attempt_name(shard, number)


def test_data_folders_of_one_attempt_differ() -> None:
    assert new_data_folder(17, 2) != new_data_folder(17, 2)
