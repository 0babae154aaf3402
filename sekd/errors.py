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
        level: level of the question that failed, if the error belongs to one question.
    """

    def __init__(self, message: str, *, level: int | None = None) -> None:
        super().__init__(message)
        self.level = level


def in_one_line(error: BaseException | str, limit: int | None = None) -> str:
    """Write an error, or the text of one, on one line of at most ``limit`` characters.

    An error that is not sekd's own begins with its type.
    """
    is_foreign = isinstance(error, BaseException) and not isinstance(error, SekdError)
    kind = f"{type(error).__name__}: " if is_foreign else ""
    return f"{kind}{' '.join(str(error).split())}"[:limit]
