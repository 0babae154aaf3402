"""Check every file on disk against the hash that was recorded when it was written.

Attempts with a damaged file are revoked, and the next run does those shards again, and only those.
What is made without shards is made again by the command that made it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sekd.io.artefacts import Damage, artefact_names
from sekd.io.cache import copy_of
from sekd.io.files import names_in, read_bytes, read_many
from sekd.io.hashing import digest, hash_file
from sekd.io.locations import Location, cache_directory, local_directory
from sekd.io.parquet_bytes import parquet_batches
from sekd.io.records import DamagedFileError, read_record, unseal
from sekd.pipeline.ledger import Ledger
from sekd.pipeline.manifest import Manifest, manifest_names
from sekd.pipeline.names import attempt_name, parse_record_name
from sekd.pipeline.plan import check_plan, has_earlier_layout, newest_revision, revision_name
from sekd.pipeline.products import Product, find_products, product_directories, runs_of
from sekd.pipeline.stage import FINGERPRINT_NAME, read_fields
from sekd.pipeline.status import stage_directories


def verify_run(run: Location) -> Iterator[Damage]:
    """Find every damage in a run, its later rounds, and what the cache holds of it.

    Attempts that are damaged are revoked. Everything else is made again by the command that made
    it, when it is next called.
    """
    for _, directory in stage_directories(run):
        yield from verify_stage(directory)
    # Of a run on a remote store, the checkpoints are on this machine.
    for place in dict.fromkeys([run, local_directory(run)]):
        for _, one in runs_of(place):
            for directory in product_directories(one):
                if FINGERPRINT_NAME in names_in(directory):
                    yield from _verify_fingerprint(directory)
                    yield from _verify_attempts(Ledger(directory))
            for product in find_products(one):
                yield from _verify_product(product)
    if names_in(run / "benchmark"):  # these have merged the student into a copy of the base
        merged_models = cache_directory() / "merged"
        for name in artefact_names(merged_models):
            yield from _verify_product(Product(name, "benchmark", merged_models))


def _verify_product(product: Product) -> Iterator[Damage]:
    artefact = product.read()
    if artefact is None:
        yield from product.find_damages()
        return
    for path, entry in artefact.files.items():
        location = product.directory / path
        reason = _find_damage(location, int(entry["bytes"]), str(entry["sha256"]))
        if reason is not None:
            yield Damage(str(location), reason)


def verify_stage(directory: Location) -> Iterator[Damage]:
    """Find every damage in one directory of a stage; revoke the attempts that it touches.

    Raises:
        StorageError: if a file cannot be read. That says nothing about it, so nothing is revoked.
    """
    yield from _verify_fingerprint(directory)
    ledger = Ledger(directory)
    try:
        check_plan(directory)
        is_planned = newest_revision(directory) is not None or has_earlier_layout(directory)
        if ledger.tried() and not is_planned:
            yield Damage(str(directory / revision_name(0)), "gone")
    except DamagedFileError as error:
        yield Damage(str(error.path), error.reason)
    yield from _verify_attempts(ledger)
    for name in manifest_names(directory):
        yield from _verify_manifest(ledger, name)


def _verify_fingerprint(directory: Location) -> Iterator[Damage]:
    fields = read_fields(directory)
    if fields is None or digest(fields)[:16] != directory.name:
        yield Damage(str(directory / FINGERPRINT_NAME), "gone or not what was written")


def _verify_attempts(ledger: Ledger) -> Iterator[Damage]:
    revoked = ledger.revoked()
    parsed = {name: parse_record_name(name) for name in names_in(ledger.attempts)}
    records = {name: record for name, record in parsed.items() if record and record[2] != "beat"}
    contents = read_many(ledger.attempts, records)
    for name, (shard, number, kind) in records.items():
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
            for damage in _verify_data(ledger.directory, record):
                ledger.revoke(shard, number, str(damage))
                yield damage
            yield from _verify_copies(ledger.directory, record)


def _verify_data(directory: Location, record: Mapping[str, Any]) -> Iterator[Damage]:
    """Check the data files of an attempt that is done against its end record."""
    for entry in record["files"]:
        path = directory / str(entry["path"])
        reason = _find_damage(path, int(entry["bytes"]), str(entry["sha256"]))
        if reason is not None:
            yield Damage(str(path), reason)


def _verify_copies(directory: Location, record: Mapping[str, Any]) -> Iterator[Damage]:
    """Check what the cache holds of an attempt's files on a remote store."""
    if isinstance(directory, Path):
        return
    for entry in record["files"]:
        copy = copy_of(directory / str(entry["path"]), str(entry["sha256"]))
        if copy.is_file() and hash_file(copy) != entry["sha256"]:
            yield Damage(str(copy), "a copy in the cache that is not what was committed")


def _verify_manifest(ledger: Ledger, name: str) -> Iterator[Damage]:
    path = ledger.directory / name
    try:
        manifest = Manifest(ledger.directory, read_record(path))
    except DamagedFileError as error:
        yield Damage(str(error.path), error.reason)
        return
    for shard, number in sorted(ledger.revoked() & set(manifest.attempts)):
        yield Damage(str(path), f"names the revoked {attempt_name(shard, number)}")


def _find_damage(path: Location, num_bytes: int, sha256: str) -> str | None:
    """Say in what way a file is damaged; ``None`` if it is as committed and can be opened."""
    try:
        content = read_bytes(path)
    except FileNotFoundError:
        return "gone"
    except OSError as error:  # what is there is no file
        return f"cannot be read: {error}"
    if len(content) != num_bytes:
        return f"{len(content)} bytes instead of {num_bytes}"
    if hashlib.sha256(content).hexdigest() != sha256:
        return "not the bytes that were committed"
    return _why_unreadable(path.suffix, content)


def _why_unreadable(suffix: str, content: bytes) -> str | None:
    """Say why a reader would refuse a file whose bytes are as committed; ``None`` if it opens."""
    try:
        if suffix == ".parquet":
            for _ in parquet_batches(content):
                pass
        elif suffix == ".safetensors":
            # An 8-byte little-endian length, a JSON header of that length, then the tensors.
            header_length = int.from_bytes(content[:8], "little")
            tensors = json.loads(content[8 : 8 + header_length])
            tensors.pop("__metadata__", None)
            end = max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
            if 8 + header_length + end != len(content):
                return "its tensors end elsewhere than the file"
    except (ValueError, KeyError, TypeError, OSError) as error:
        return f"does not open: {error}"
    return None
