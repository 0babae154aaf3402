"""Everything on disk held against the hashes that were recorded when it was written.

What is found damaged is revoked, and the next run does those shards again, and only those.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from sekd.errors import ConfigError
from sekd.io.files import names_in, read_many
from sekd.io.hashing import digest
from sekd.io.locations import Location
from sekd.io.records import unseal
from sekd.pipeline.ledger import Ledger
from sekd.pipeline.manifest import Manifest
from sekd.pipeline.plan import PLAN_NAME, read_plan
from sekd.pipeline.stage import FINGERPRINT_NAME, read_fields


@dataclass(frozen=True)
class Damage:
    """A file that is not what was written, and in what way."""

    path: str
    reason: str


def verify_stage(directory: Location) -> Iterator[Damage]:
    """Every damage in one directory of a stage; attempts that it touches are revoked."""
    fields = read_fields(directory)
    if fields is None or digest(fields)[:16] != directory.name:
        yield Damage(str(directory / FINGERPRINT_NAME), "gone or not what was written")
    ledger = Ledger(directory)
    try:
        read_plan(directory)
    except FileNotFoundError:
        if ledger.tried():
            yield Damage(str(directory / PLAN_NAME), "gone")
    except ValueError as error:
        yield Damage(*str(error).split(": ", 1))
    yield from _attempts(ledger)
    if "manifest.json" in names_in(directory):
        try:
            manifest = Manifest.load(directory)
        except ConfigError as error:
            yield Damage(str(directory / "manifest.json"), str(error).split(": ", 1)[1])
        else:
            for shard, number in sorted(ledger.revoked() & set(manifest.attempts)):
                yield Damage(
                    str(directory / "manifest.json"), f"names the revoked {shard:05d}-{number:03d}"
                )


def _attempts(ledger: Ledger) -> Iterator[Damage]:
    revoked = ledger.revoked()
    records = [name for name in names_in(ledger.attempts) if not name.endswith(".beat.json")]
    contents = read_many(ledger.attempts, records)
    for name in records:
        attempt, kind, _ = name.split(".")
        shard, number = map(int, attempt.split("-"))
        if kind in ("start", "end") and (shard, number) in revoked:
            continue
        path = ledger.attempts / name
        try:
            record = unseal(contents.get(name, b""))
        except ValueError as error:
            ledger.revoke(shard, number, f"{path}: {error}")
            yield Damage(str(path), str(error))
            continue
        if kind == "end" and record["status"] == "done":
            for entry in record["files"]:
                data = ledger.directory / str(entry["path"])
                reason = _damage_of(data, int(entry["bytes"]), str(entry["sha256"]))
                if reason:
                    ledger.revoke(shard, number, f"{data}: {reason}")
                    yield Damage(str(data), reason)


def _damage_of(path: Location, num_bytes: int, sha256: str) -> str | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return "gone"
    except OSError as error:
        return f"cannot be read: {error}"
    if len(content) != num_bytes:
        return f"{len(content)} bytes instead of {num_bytes}"
    if hashlib.sha256(content).hexdigest() != sha256:
        return "not the bytes that were committed"
    return _unreadable(path.suffix, content)


def _unreadable(suffix: str, content: bytes) -> str | None:
    """Why a reader would refuse a file whose bytes are those that were committed."""
    try:
        if suffix == ".parquet":
            pq.read_table(pa.BufferReader(content))
        elif suffix == ".safetensors":
            length = int.from_bytes(content[:8], "little")
            tensors = json.loads(content[8 : 8 + length])
            tensors.pop("__metadata__", None)
            end = max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
            if 8 + length + end != len(content):
                return "its tensors end elsewhere than the file"
    except (ValueError, KeyError, TypeError, OSError) as error:
        return f"does not open: {error}"
    return None
