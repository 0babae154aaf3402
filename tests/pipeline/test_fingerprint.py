"""Differences between fingerprints: complete, readable, and never empty when hashes differ."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sekd.io.hashing import digest
from sekd.pipeline.fingerprint import differences

OLD_HASH, NEW_HASH = "0123456789abcdef" * 4, "fedcba9876543210" * 4


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, []),
        ({"a": 1}, {"a": 2}, ["a: 1 -> 2"]),
        ({"a": "x"}, {"a": None}, ['a: "x" -> null']),
        ({}, {"a": 1}, ["a: (absent) -> 1"]),
        ({"a": 1}, {}, ["a: 1 -> (absent)"]),
        ({"a": "(absent)"}, {}, ['a: "(absent)" -> (absent)']),
        ({"a": None}, {}, ["a: null -> (absent)"]),
        ({"a": {"b": {"c": 1, "d": 2}}}, {"a": {"b": {"c": 3, "d": 2}}}, ["a.b.c: 1 -> 3"]),
        ({"a": {"b": 1}}, {"a": 1}, ["a: (absent) -> 1", "a.b: 1 -> (absent)"]),
        ({"a": {}}, {}, ["a: {} -> (absent)"]),
        ({"b": 1, "a": [1, 2]}, {"b": 2, "a": [2, 1]}, ["a: [1,2] -> [2,1]", "b: 1 -> 2"]),
        # Equal in Python but not in JSON, so not in the hash either.
        ({"a": 1}, {"a": 1.0}, ["a: 1 -> 1.0"]),
        ({"a": 1}, {"a": True}, ["a: 1 -> true"]),
        # Equal in JSON but not in Python: what was read back from JSON is a list.
        ({"a": [1, 2]}, {"a": (1, 2)}, []),
        ({"a": OLD_HASH}, {"a": NEW_HASH}, ["a: 0123456789ab -> fedcba987654"]),
        ({"a": "x" * 64}, {"a": "y"}, [f'a: "{"x" * 64}" -> "y"']),  # as long as a digest, but none
    ],
)
def test_each_difference_names_the_field_and_both_values(
    old: dict[str, Any], new: dict[str, Any], expected: list[str]
) -> None:
    assert differences(old, new) == expected


VALUES = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([1.0, "1", "", OLD_HASH])
FIELDS = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(VALUES, lambda inner: st.dictionaries(st.sampled_from("xyz"), inner)),
)


@settings(deadline=None)
@given(old=FIELDS, new=FIELDS)
def test_differences_are_found_exactly_if_the_hashes_differ(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    assert bool(differences(old, new)) == (digest(old) != digest(new))
    assert len(differences(old, new)) == len(differences(new, old))
