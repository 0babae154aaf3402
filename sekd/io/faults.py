"""Tell what an error of storage says; the one place that knows errnos and HTTP statuses.

A fault is *passing* if the same operation may succeed a moment later: a stale file handle, a busy
server. It is *blocked* if it stays until a person acts: a full disk, a missing permission. Every
other error is about the one file: it is not there, or what was read is wrong. Only such an error
may set a sample aside, fail a shard or revoke what is done.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, BinaryIO, Literal, TypeVar

from sekd.errors import FatalError, SekdError, in_one_line

logger = logging.getLogger(__name__)

FaultKind = Literal["passing", "blocked"]
T = TypeVar("T")

DELAYS: Sequence[float] = (0.2, 1.0, 4.0, 15.0, 30.0)
"""Seconds before each new try after a passing fault, about a minute in all."""

_BLOCKED = frozenset(
    getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "EFBIG")
)
_ABOUT_THE_FILE = frozenset(
    getattr(errno, name)
    for name in (
        *("ENOENT", "ENOTDIR", "EISDIR", "ELOOP", "ENAMETOOLONG", "EEXIST", "ENOTEMPTY", "EXDEV"),
        *("EINVAL", "EILSEQ", "EOVERFLOW", "ESPIPE", "EBADF", "EMLINK", "ENOSYS", "EOPNOTSUPP"),
        *("ENOTSUP", "EBADMSG", "EUCLEAN", "ENODATA", "E2BIG", "ENOEXEC", "ENOTTY", "ECHILD"),
        *("ESRCH", "ERANGE", "EDOM", "EMSGSIZE"),
    )
    if hasattr(errno, name)
)
"""Errnos of an operation that would fail again and succeed with other files. An errno that is in
neither set counts as passing: a stop costs a restart, a wrong verdict costs data."""

_PASSING_STATUSES = frozenset({408, 409, 423, 425, 429, 500, 502, 503, 504, 509, 522, 524})
_BLOCKED_STATUSES = frozenset({401, 402, 403, 407})
_PASSING_CODES = frozenset({"RequestTimeout", "IncompleteBody", "BadDigest"})
"""Error codes of S3 whose HTTP status says less than they do."""
_PASSING_CLASSES = frozenset(
    {
        *("ClientConnectionError", "ClientPayloadError"),  # aiohttp, of gcsfs and s3fs
        "HTTPClientError",  # botocore
        *("ServiceRequestError", "ServiceResponseError"),  # Azure
        *("TransportError", "ProtocolError", "IncompleteRead", "SSLError"),
    }
)
"""Names of classes for connections that broke off; their libraries need not be installed."""
_BLOCKED_CLASSES = frozenset({"NoCredentialsError", "PartialCredentialsError", "RefreshError"})
_ABOUT_THE_FILE_CLASSES = frozenset({"SSLCertVerificationError"})
_ERRNO_IN_TEXT = re.compile(r"\[errno (\d+)\]|\(os error (\d+)\)", re.IGNORECASE)
"""How Arrow and Rust (safetensors, tokenizers) write the errno into their messages."""
_CLOSING_FAILED = "error closing file"
"""Arrow's message for a file that cannot be closed: without an errno, and not about the content."""

_tries_once: ContextVar[bool] = ContextVar("tries_once", default=False)


class StorageError(FatalError):
    """Storage does not work: the run stops, and what is done stays done.

    Attributes:
        kind: whether the fault is blocked, or is passing and did not pass in time.
    """

    def __init__(self, message: str, kind: FaultKind = "passing") -> None:
        super().__init__(message)
        self.kind: FaultKind = kind

    @classmethod
    def of(cls, place: object, error: BaseException, kind: FaultKind) -> StorageError:
        """Make the error about a place, with the fault that was met there."""
        advice = "make room or give permission, and run again"
        if kind == "passing":
            advice = "run again when the storage answers"
        return cls(f"{place}: {in_one_line(error)}; {advice}: what is done stays done", kind)


def fault_kind(error: BaseException) -> FaultKind | None:
    """Return the kind of the fault behind an error; ``None`` if it is no fault of storage.

    The errors that it was raised from are looked at, too. A ``FatalError`` is none: what raised it
    has tried again already. That a file exists, or does not, is an answer of storage.
    """
    for cause in _causes(error):
        if isinstance(cause, FatalError | FileNotFoundError | FileExistsError):
            return None
        kind = _kind_of(cause)
        if kind is not None:
            return kind
    return None


def retry(operation: Callable[[], T], place: object, delays: Sequence[float] | None = None) -> T:
    """Call ``operation``, and call it again after each passing fault, until the delays are used up.

    Args:
        place: what the operation is about, for messages.
        delays: seconds before each new try; by default :data:`DELAYS`.

    Raises:
        StorageError: if a fault is blocked, or did not pass. Other errors are raised as they are.
    """
    delays = DELAYS if delays is None else delays
    if _tries_once.get():
        delays = ()
    num_tried = 0
    while True:
        try:
            return operation()
        except Exception as error:
            kind = fault_kind(error)
            if kind is None:
                raise
            if kind == "blocked" or num_tried == len(delays):
                raise StorageError.of(place, error, kind) from error
            delay = delays[num_tried]
            logger.warning("%s: %s; next try in %g s", place, in_one_line(error), delay)
        num_tried += 1
        time.sleep(delay)


def refuse_short_read(file: BinaryIO, num_bytes: int) -> None:
    """Raise what Python passes over: it takes a read that would block for the end of the file.

    Raises:
        BlockingIOError: if fewer bytes were read than the file has.
    """
    size = os.fstat(file.fileno()).st_size
    if num_bytes < size:
        raise BlockingIOError(errno.EAGAIN, f"{num_bytes} of {size} bytes could be read", file.name)


@contextmanager
def single_try() -> Iterator[None]:
    """Let :func:`retry` try once in this block, for what is worth no waiting."""
    token = _tries_once.set(True)
    try:
        yield
    finally:
        _tries_once.reset(token)


@contextmanager
def optional(what: str) -> Iterator[None]:
    """Go on without what the block does, a cache for instance, if storage does not let it."""
    try:
        with single_try():
            yield
    except (OSError, StorageError) as error:
        logger.warning("going on without %s: %s", what, in_one_line(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those behind it, as a traceback shows them."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        reason = getattr(current, "reason", None)  # of urllib's URLError
        if isinstance(reason, BaseException):
            current = reason
        elif current.__cause__ is not None or current.__suppress_context__:
            current = current.__cause__
        else:
            current = current.__context__


def _kind_of(error: BaseException) -> FaultKind | None:
    """Return the kind of fault that this error alone tells of."""
    if isinstance(error, SekdError):
        return None
    classes = {base.__name__ for base in type(error).__mro__}
    if classes & _ABOUT_THE_FILE_CLASSES:
        return None
    status = _http_status(error)
    if status in _PASSING_STATUSES or _s3_code(error) in _PASSING_CODES:
        return "passing"
    if status in _BLOCKED_STATUSES or classes & _BLOCKED_CLASSES:
        return "blocked"
    if isinstance(error, TimeoutError | ConnectionError) or classes & _PASSING_CLASSES:
        return "passing"
    number = _errno(error)
    if number is None:
        if isinstance(error, OSError) and str(error) == _CLOSING_FAILED:
            return "passing"
        return "blocked" if isinstance(error, PermissionError) else None
    if number in _BLOCKED:
        return "blocked"
    return None if number in _ABOUT_THE_FILE else "passing"


def _errno(error: BaseException) -> int | None:
    """Return an error's errno, or the one in its text, if it has any."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _ERRNO_IN_TEXT.search(str(error))
    return int(found[1] or found[2]) if found else None


def _http_status(error: BaseException) -> int | None:
    """Return the HTTP status that an error of any client library carries, if it does."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, Mapping):  # botocore
        candidates = [response.get("ResponseMetadata", {}).get("HTTPStatusCode")]
    else:
        candidates = [
            *(getattr(error, name, None) for name in ("status", "code", "status_code")),
            getattr(response, "status_code", None),
        ]
    for status in candidates:
        if isinstance(status, int) and 100 <= status < 600:
            return status
    return None


def _s3_code(error: BaseException) -> str | None:
    response: Any = getattr(error, "response", None)
    if not isinstance(response, Mapping):
        return None
    code = response.get("Error", {}).get("Code")
    return code if isinstance(code, str) else None
