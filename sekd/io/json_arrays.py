"""Read a large JSON object item by item, so that memory does not grow with its arrays."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from sekd.errors import ConfigError, in_one_line
from sekd.io.text import PARSE_ERRORS, refuse_irregular

_CHARACTERS_PER_READ = 1 << 23
_MARGIN = 3
"""A number such as ``1e+5`` may be cut so that it is parsed as 1, with two characters behind it."""
_SPACE = re.compile(r"[ \t\r\n]*")


def iterate_arrays(path: Path, names: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Yield (name, item) for every item of some arrays of a JSON object, in the order of the file.

    Args:
        names: keys of the object. Other entries are parsed and dropped.

    Raises:
        ConfigError: if the file cannot be read, is no JSON object, or one of these is no array.
    """
    refuse_irregular(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _ArrayReader(file).arrays(names)
    except (OSError, *PARSE_ERRORS) as error:
        raise ConfigError(f"{path}: not a JSON object of arrays: {in_one_line(error)}") from error


class _ArrayReader:
    def __init__(self, file: Any) -> None:
        self._file = file
        self._text, self._position = "", 0
        self._decode = json.JSONDecoder().raw_decode

    def arrays(self, names: Collection[str]) -> Iterator[tuple[str, Any]]:
        self._take("{")
        if self._peek() == "}":
            return
        while True:
            name = self._value()
            self._take(":")
            if name not in names:
                self._value()
            else:
                self._take("[")
                if self._peek() == "]":
                    self._take("]")
                else:
                    yield name, self._value()
                    while self._take(",]") == ",":
                        yield name, self._value()
            if self._take(",}") == "}":
                return

    def _value(self) -> Any:
        """Parse the next value, after as much more of the file as it needs."""
        self._peek()
        while True:
            try:
                value, end = self._decode(self._text, self._position)
            except json.JSONDecodeError:
                if not self._read_more():
                    raise
                continue
            if len(self._text) - end < _MARGIN and self._read_more():
                continue  # a number may go on in the part that was just read
            self._position = end
            return value

    def _take(self, expected: str) -> str:
        found = self._peek()
        if not found or found not in expected:
            raise ValueError(f"expected one of {expected!r}, found {found or 'the end'!r}")
        self._position += 1
        return found

    def _peek(self) -> str:
        """Return the next character that is no space; empty at the end of the file."""
        while True:
            match = _SPACE.match(self._text, self._position)
            assert match is not None  # it matches no space, too
            self._position = match.end()
            if self._position < len(self._text):
                return self._text[self._position]
            if not self._read_more():
                return ""

    def _read_more(self) -> bool:
        # A value that is larger than what was read before doubles what is read, so that the
        # parsing of its beginning is repeated only a few times.
        rest = self._text[self._position :]
        more = self._file.read(max(_CHARACTERS_PER_READ, len(rest)))
        if not more:
            return False
        self._text, self._position = rest + more, 0
        return True
