"""Errors as one line of text."""

from __future__ import annotations

import pytest

from sekd.errors import ConfigError, in_one_line


@pytest.mark.parametrize(
    ("error", "limit", "expected"),
    [
        (ConfigError("no such\n  layer"), None, "no such layer"),
        (KeyError("level"), None, "KeyError: 'level'"),
        ("a text\non two lines", None, "a text on two lines"),
        (ConfigError("0123456789"), 4, "0123"),
        (ValueError("0123456789"), 14, "ValueError: 01"),
    ],
)
def test_an_error_is_one_line_and_a_foreign_one_begins_with_its_type(
    error: Exception | str, limit: int | None, expected: str
) -> None:
    assert in_one_line(error, limit) == expected
