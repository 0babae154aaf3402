"""Records: what was sealed is read back, and any changed byte is noticed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sekd.io.records import DamagedFileError, hash_in_record, read_record, seal, unseal

CONTENTS = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
    st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.just("é\n"),
    min_size=1,
    max_size=3,
)


@settings(deadline=None)
@given(content=CONTENTS)
def test_content_is_read_back(content: dict[str, object]) -> None:
    record = seal(content)
    assert unseal(record) == content
    assert record.count(b"\n") == 1


@settings(deadline=None)
@given(content=CONTENTS, data=st.data())
def test_a_changed_byte_and_a_cut_are_noticed(
    content: dict[str, object], data: st.DataObject
) -> None:
    record = bytearray(seal(content))
    place = data.draw(st.integers(0, len(record) - 1))
    with pytest.raises(ValueError, match="its own hash does not fit"):
        unseal(bytes(record[:place]))
    record[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ValueError, match="its own hash does not fit"):
        unseal(bytes(record))


def test_a_record_is_utf_8_and_refuses_what_json_cannot_hold() -> None:
    assert "Rüppell".encode() in seal({"path": "Rüppell.jpg"})
    with pytest.raises(ValueError, match="not JSON compliant"):
        seal({"loss": float("nan")})


def test_a_record_carries_the_hash_of_the_bytes_before_it() -> None:
    record = seal({"shard": 3})
    assert record.startswith(b'{"shard": 3, "sha256": "')
    assert hash_in_record(record) == hashlib.sha256(b'{"shard": 3').hexdigest()
    assert json.loads(record)["sha256"] == hash_in_record(record)


def test_a_damaged_file_names_its_path_and_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "plan: of a run.json"
    path.write_bytes(seal({"a": 1})[:-1])
    with pytest.raises(DamagedFileError) as error:
        read_record(path)
    assert error.value.path == path
    assert error.value.reason == "not the bytes that were written: its own hash does not fit"
    assert str(error.value) == f"{path}: {error.value.reason}"


def test_a_missing_file_is_not_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_record(tmp_path / "missing.json")
