"""The four kinds of failure, and who acts on each."""

from __future__ import annotations


class SekdError(Exception):
    """Base of every error that sekd raises on purpose; its text is one line for a person."""


class ConfigError(SekdError):
    """The user's input is wrong: nothing is started, the CLI prints one line and exits with 2."""


class FatalError(SekdError):
    """The machinery is broken (a dead engine, a full disk): the whole run stops."""


class ShardError(SekdError):
    """One shard failed: it is recorded and tried again by a later run; other shards go on."""


class SampleError(SekdError):
    """One sample cannot be processed: it is quarantined with its reason; the shard goes on.

    Args:
        message: what is wrong, with the value and the file.
        level: level of the question at which it went wrong, where there is one.
    """

    def __init__(self, message: str, *, level: int | None = None) -> None:
        super().__init__(message)
        self.level = level


def in_one_line(error: BaseException) -> str:
    """The text of an error on one line; an error that is not ours begins with its type."""
    kind = "" if isinstance(error, SekdError) else f"{type(error).__name__}: "
    return kind + " ".join(str(error).split())
