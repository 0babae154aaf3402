"""A large JSON object is read item by item, as if it had been read whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sekd.errors import ConfigError
from sekd.io import json_arrays
from sekd.io.json_arrays import iterate_arrays

LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("characters", [1, 7, 1 << 20])
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.fixed_dictionaries({"a": st.lists(VALUES), "b": st.lists(VALUES), "other": VALUES}),
    indent=st.sampled_from([None, 1]),
)
def test_items_are_those_of_the_whole_object(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    characters: int,
    content: dict[str, Any],
    indent: int | None,
) -> None:
    monkeypatch.setattr(json_arrays, "_CHARACTERS_PER_READ", characters)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=False), encoding="utf-8")
    assert list(iterate_arrays(path, ["a", "b"])) == [
        (name, item) for name in content if name != "other" for item in content[name]
    ]


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"[]", b"{", b'{"a"', b'{"a": [1, 2', b'{"a": {}}', b'{"a": [1 2]}', b'{"a": [1],}'),
        *(b'{"a": [' + b"9" * 5000 + b"]}", b'{"a": ' + b"[" * 100_000, b'{"a": ["\xff"]}', b"\0"),
    ],
)
def test_what_is_no_object_of_arrays_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"a\.json: not a JSON object of arrays") as error:
        list(iterate_arrays(tmp_path / "a.json", ["a"]))
    assert "\n" not in str(error.value)
