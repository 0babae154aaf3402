"""Read texts and JSON of unknown origin: every fault becomes an error that names the file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sekd.errors import ConfigError, in_one_line

PARSE_ERRORS = (ValueError, RecursionError)
"""Errors that the JSON parser raises for a text that it cannot parse: for a number of thousands of
digits a plain ``ValueError``, and for nesting without end a ``RecursionError``."""


def refuse_irregular(path: Path) -> None:
    """Refuse what is no regular file: reading a pipe or a device might never end.

    Raises:
        ConfigError: naming the path.
    """
    if not path.is_file():
        why = "not a regular file" if path.exists() else "no such file"
        raise ConfigError(f"{path}: {why}")


def read_text_file(path: Path) -> str:
    """Read a text in UTF-8, with or without a byte order mark.

    Raises:
        ConfigError: if the file cannot be read; of another encoding the line is named.
    """
    refuse_irregular(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{path}, line {line}: not in UTF-8 ({error.reason}); save the file as UTF-8"
        ) from error


def read_lines(path: Path, *, takes_pipes: bool = False) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of every line that is not blank, without its line break.

    Args:
        takes_pipes: read a pipe, too. A person who names one waits for it, as for ``<(sort a b)``.

    Raises:
        ConfigError: if the file cannot be read, or a line is not in UTF-8.
    """
    if not (takes_pipes and path.is_fifo()):
        refuse_irregular(path)
    number = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                if text.strip():
                    yield number, text
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}, line {number}: not in UTF-8 ({error.reason})") from error


def read_json(
    path: Path, object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None
) -> Any:
    """Read a JSON file.

    Raises:
        ConfigError: if the file cannot be read or parsed.
    """
    text = read_text_file(path)
    try:
        return json.loads(text, object_pairs_hook=object_pairs_hook)
    except PARSE_ERRORS as error:
        raise ConfigError(f"{path}: not valid JSON: {in_one_line(error)}") from error
