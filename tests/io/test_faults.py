"""Faults of storage: what passes, what a person must mend, and what is about the file itself."""

from __future__ import annotations

import email.message
import errno
import io
import os
import ssl
import urllib.error
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from safetensors import SafetensorError

from sekd.errors import ConfigError, FatalError, SampleError
from sekd.io import faults
from sekd.io.faults import StorageError, fault_kind, optional, refuse_short_read, retry, single_try

PASSING = (
    *("EIO", "ESTALE", "EMFILE", "ENFILE", "ETIMEDOUT", "EBUSY", "ENOTCONN", "EAGAIN", "EINTR"),
    *("ECONNRESET", "ECONNREFUSED", "ECONNABORTED", "EPIPE", "EHOSTDOWN", "EHOSTUNREACH"),
    *("ENETDOWN", "ENETUNREACH", "ENODEV", "ENXIO", "EREMOTEIO", "ENOMEM", "ENOLCK", "ENOLINK"),
)
BLOCKED = ("ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "EFBIG")
ABOUT_THE_FILE = ("ENOENT", "ENOTDIR", "EISDIR", "ELOOP", "ENAMETOOLONG", "EEXIST", "EINVAL")


class Answer(Exception):  # noqa: N818  it stands for classes of libraries that are not installed
    """An error of a client library that carries attributes."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__("no")
        self.__dict__ |= attributes


class ClientPayloadError(Exception):
    """Named like that of aiohttp."""


def botocore_error(status: int, code: str) -> Answer:
    return Answer(
        response={"ResponseMetadata": {"HTTPStatusCode": status}, "Error": {"Code": code}}
    )


def http_error(status: int) -> urllib.error.HTTPError:
    return urllib.error.HTTPError("http://a", status, "", email.message.Message(), io.BytesIO())


@pytest.mark.parametrize("name", PASSING)
def test_errnos_that_pass(name: str) -> None:
    assert fault_kind(OSError(getattr(errno, name), name)) == "passing"


@pytest.mark.parametrize("name", BLOCKED)
def test_errnos_that_a_person_must_mend(name: str) -> None:
    assert fault_kind(OSError(getattr(errno, name), name)) == "blocked"


@pytest.mark.parametrize("name", ABOUT_THE_FILE)
def test_errnos_that_are_about_the_file(name: str) -> None:
    assert fault_kind(OSError(getattr(errno, name), name)) is None


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (SafetensorError("Error while serializing: I/O error: No space (os error 28)"), "blocked"),
        (SafetensorError("I/O error: Input/output error (os error 5)"), "passing"),
        (SafetensorError("Error while deserializing header: header too large"), None),
        (OSError("Error writing bytes to file. Detail: [errno 28] No space left"), "blocked"),
        (OSError("Unexpected end of stream"), None),
        (pa.ArrowInvalid("Parquet magic bytes not found in footer"), None),
        (TimeoutError(), "passing"),
        (ConnectionResetError(), "passing"),
        (PermissionError("Access Denied"), "blocked"),
        (urllib.error.URLError(OSError(errno.ECONNREFUSED, "refused")), "passing"),
        (urllib.error.URLError(ssl.SSLCertVerificationError(1, "expired")), None),
        (http_error(503), "passing"),
        (http_error(403), "blocked"),
        (http_error(404), None),
        (botocore_error(503, "SlowDown"), "passing"),
        (botocore_error(400, "RequestTimeout"), "passing"),
        (botocore_error(403, "ExpiredToken"), "blocked"),
        (botocore_error(501, "NotImplemented"), None),
        (Answer(code=429), "passing"),  # gcsfs
        (Answer(status=502), "passing"),  # aiohttp
        (Answer(status_code=500), "passing"),  # Azure
        (Answer(response=SimpleNamespace(status_code=504)), "passing"),  # requests and httpx
        (Answer(response=None), None),
        (ClientPayloadError("cut off"), "passing"),
        (ValueError("other"), None),
    ],
)
def test_errors_of_libraries_are_known_by_what_they_carry(error: Exception, kind: str) -> None:
    assert fault_kind(error) == kind


@pytest.mark.parametrize("mode", ["wb", "rb"])
def test_arrow_cannot_close_a_file_and_leaves_the_errno_out(tmp_path: Path, mode: str) -> None:
    (tmp_path / "t").write_bytes(b"text")
    file = pa.OSFile(str(tmp_path / "t"), mode)
    os.close(file.fileno())  # as a disk does that fails at the last moment
    with pytest.raises(OSError, match="closing") as caught:
        file.close()
    assert caught.value.errno is None
    assert fault_kind(caught.value) == "passing"


def test_the_error_behind_an_error_counts() -> None:
    error = ConfigError("t.csv: cannot be read")
    error.__cause__ = OSError(errno.ESTALE, "stale")
    assert fault_kind(error) == "passing"
    assert fault_kind(SampleError("not an image")) is None


def test_what_has_been_tried_again_is_not_tried_once_more() -> None:
    error = StorageError("a")
    error.__cause__ = OSError(errno.EIO, "no")
    assert fault_kind(error) is None
    assert isinstance(error, FatalError)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds: list[float] = []
    monkeypatch.setattr(faults.time, "sleep", seconds.append)
    return seconds


class Failing:
    """Fails some times, then returns the number of the call."""

    def __init__(self, error: Exception, num_times: int) -> None:
        self.error = error
        self.num_times = num_times
        self.num_calls = 0

    def __call__(self) -> int:
        self.num_calls += 1
        if self.num_calls <= self.num_times:
            raise self.error
        return self.num_calls


def test_a_passing_fault_is_tried_again(slept: list[float]) -> None:
    assert retry(Failing(OSError(errno.ESTALE, "stale"), 2), "a") == 3
    assert slept == list(faults.DELAYS[:2])


def test_a_fault_that_does_not_pass_stops_after_about_a_minute(slept: list[float]) -> None:
    with pytest.raises(StorageError, match=r"a\.jpg: .*stale.*run again when the storage answers"):
        retry(Failing(OSError(errno.ESTALE, "stale"), 99), Path("a.jpg"))
    assert slept == list(faults.DELAYS)
    assert 30 < sum(slept) < 90


def test_a_blocked_fault_is_tried_once(slept: list[float]) -> None:
    failing = Failing(OSError(errno.ENOSPC, "full"), 99)
    with pytest.raises(StorageError, match="make room") as caught:
        retry(failing, "a")
    assert (caught.value.kind, failing.num_calls, slept) == ("blocked", 1, [])


def test_other_errors_are_raised_as_they_are(slept: list[float]) -> None:
    with pytest.raises(FileNotFoundError):
        retry(Failing(FileNotFoundError(errno.ENOENT, "gone"), 1), "a")
    with pytest.raises(ValueError, match="wrong"):
        retry(Failing(ValueError("wrong"), 1), "a")
    assert not slept


def test_what_is_optional_is_tried_once_and_left_out(slept: list[float]) -> None:
    with optional("a cache"):
        retry(Failing(OSError(errno.EIO, "no"), 99), "a")
    with single_try(), pytest.raises(StorageError):
        retry(Failing(OSError(errno.EIO, "no"), 99), "a")
    assert not slept
    with pytest.raises(ValueError, match="wrong"), optional("a cache"):
        raise ValueError("wrong")


def test_a_read_that_would_block_is_no_end_of_the_file(tmp_path: Path) -> None:
    """Python ends a read at EAGAIN without an error; a shorter file would count as damaged."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with path.open("rb", buffering=0) as file:
        refuse_short_read(file, 10)
        with pytest.raises(BlockingIOError, match="4 of 10 bytes") as caught:
            refuse_short_read(file, 4)
    assert fault_kind(caught.value) == "passing"
