"""Hashes: what they notice, what they refuse, and that they stay what they were."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sekd.io.hashing import canonical_json, digest, hash_directory, hash_file

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # JSON in UTF-8 has no lone surrogates; digest refuses them.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


def reversed_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(item) for item in value] if isinstance(value, list) else value


@settings(deadline=None)
@given(value=JSON)
def test_canonical_json_does_not_depend_on_the_order_of_keys_and_loses_nothing(value: Any) -> None:
    text = canonical_json(value)
    assert canonical_json(reversed_keys(value)) == text
    assert json.loads(text) == value


@pytest.mark.parametrize(
    ("one", "other"),
    [([1, 2], [2, 1]), (1, 1.0), (1, True), (1, "1"), (None, "null"), ({}, []), ("é", "e\u0301")],
)
def test_different_values_have_different_digests(one: object, other: object) -> None:
    assert digest(one) != digest(other)


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), object(), Path("a"), {1, 2}, b"a", {"a": [float("-inf")]}, 1j],
)
def test_what_json_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        canonical_json(value)


def test_digest_is_pinned() -> None:
    # Changing this digest orphans every stage directory on every disk.
    value = {"b": [1, 2.5, None, True, 1e-05], "a": {"é": "\n", "Z": ""}}
    assert canonical_json(value) == '{"a":{"Z":"","é":"\\n"},"b":[1,2.5,null,true,1e-05]}'
    assert digest(value) == "a6bad933dea364bb143ec3cac8a9c1e29830f3b909bd28c1260752deb233bf9e"


def test_hash_file_is_sha256_of_the_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 2000  # more than one read buffer
    (tmp_path / "a").write_bytes(content)
    assert hash_file(tmp_path / "a") == hashlib.sha256(content).hexdigest()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "deep" / "weights").write_text("w")
    return tmp_path


def test_hash_directory_names_every_file(model: Path) -> None:
    hashes = hash_directory(model)
    assert hashes == {
        "config.json": hashlib.sha256(b"{}").hexdigest(),
        "deep/weights": hashlib.sha256(b"w").hexdigest(),
    }


@pytest.mark.parametrize(
    ("change", "is_noticed"),
    [
        (lambda d: (d / "config.json").write_text("{ }"), True),
        (lambda d: (d / "deep" / "weights").rename(d / "deep" / "other"), True),
        (lambda d: (d / "deep" / "weights").rename(d / "weights"), True),
        (lambda d: (d / "config.json").unlink(), True),
        (lambda d: (d / "new").touch(), True),
        (lambda d: (d / ".hidden").write_text("x"), False),
        (lambda d: (d / "deep" / ".hidden").write_text("x"), False),
        (lambda d: ((d / ".cache").mkdir(), (d / ".cache" / "file").write_text("x")), False),
    ],
)
def test_hash_directory_notices_content_and_names_but_no_hidden_files(
    model: Path, change: Callable[[Path], object], is_noticed: bool
) -> None:
    before = hash_directory(model)
    change(model)
    assert (hash_directory(model) != before) == is_noticed


def test_hash_directory_itself_may_lie_below_a_hidden_one(tmp_path: Path) -> None:
    # As models do in ~/.cache.
    directory = tmp_path / ".cache" / "model"
    directory.mkdir(parents=True)
    (directory / "weights").write_text("w")
    assert list(hash_directory(directory)) == ["weights"]
