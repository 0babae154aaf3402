"""A stage's directory: there is one for each fingerprint, with its plan and its ledger.

The fingerprint is that of the stage's settings, its model and its libraries. What the shards are
made from is not in it: each shard has a key of its own, and a directory holds the shards of every
state that the data were in.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sekd.errors import ConfigError
from sekd.io.faults import StorageError
from sekd.io.files import names_in, write_atomically
from sekd.io.hashing import digest
from sekd.io.locations import Location, to_location
from sekd.io.records import DamagedFileError, read_record, seal
from sekd.pipeline.fingerprint import differences
from sekd.pipeline.inputs import Inputs
from sekd.pipeline.ledger import Ledger, ShardState
from sekd.pipeline.liveness import Observer
from sekd.pipeline.manifest import Manifest
from sekd.pipeline.plan import (
    Plan,
    find_plan,
    has_earlier_layout,
    open_plan,
    why_not_planned,
)

logger = logging.getLogger(__name__)

FINGERPRINT_NAME = "fingerprint.json"


@dataclass(frozen=True)
class Stage:
    """A stage's directory for one fingerprint: ``<root>/<first 16 digits>``.

    Attributes:
        plan: the shards that the present inputs ask for.
    """

    name: str
    directory: Location
    fingerprint: str
    plan: Plan
    ledger: Ledger

    @classmethod
    def open(cls, root: Location, fields: Mapping[str, Any], inputs: Inputs) -> Stage:
        """Open the directory of this fingerprint, or create it, and plan what is not planned yet.

        Raises:
            ConfigError: if nothing can be written there.
        """
        root = to_location(root)
        try:
            directory = open_directory(root, fields)
            plan = open_plan(directory, inputs)
            return cls(root.name, directory, digest(fields), plan, Ledger(directory))
        except StorageError as error:
            if error.kind == "passing":
                raise
            raise ConfigError(
                f"{root}: cannot be written ({error.__cause__}); set another run_dir"
            ) from error

    def states(self, observer: Observer | None = None) -> list[ShardState]:
        """Derive the status of every shard; see :meth:`Ledger.states`."""
        return self.ledger.states(self.plan, observer)


def open_directory(root: Location, fields: Mapping[str, Any]) -> Location:
    """Return the directory of these fields' fingerprint below ``root``; create it if need be.

    If other directories exist, the log says how the new one differs from the nearest of them.
    """
    fingerprint = digest(fields)
    directory: Location = root / fingerprint[:16]
    if read_fields(directory) is None:
        earlier = _numbered_directories(root)
        number = earlier[0][0] + 1 if earlier else 1
        if earlier:
            logger.info("%s: starts anew; %s", root.name, _nearest_difference(root, fields))
        # Directories are numbered, because a clock may be set back, and then the newest looks old.
        content = seal({"fingerprint": fingerprint, "number": number, "fields": fields})
        write_atomically(directory / FINGERPRINT_NAME, content)
    return directory


def _nearest_difference(root: Location, fields: Mapping[str, Any]) -> str:
    """Say how the directory below ``root`` that differs least from these fields does differ."""
    changes = {path: differences(old, fields) for path, old in newest_first(root)}
    nearest = min(changes, key=lambda path: len(changes[path]))
    if has_earlier_layout(nearest):
        return f"{nearest} was made by an earlier version of sekd and is kept"
    return f"{nearest} is kept, and differs in {'; '.join(changes[nearest])}"


def read_fields(directory: Location) -> dict[str, Any] | None:
    """Read the fields that a directory's fingerprint hashes; ``None`` if missing or damaged."""
    record = _read_fingerprint(directory)
    return None if record is None else dict(record["fields"])


def newest_first(root: Location) -> list[tuple[Location, dict[str, Any]]]:
    """List the directories below ``root`` with their fingerprint's fields, newest first."""
    return [(directory, fields) for _, directory, fields in _numbered_directories(root)]


def _numbered_directories(root: Location) -> list[tuple[int, Location, dict[str, Any]]]:
    """List number, path and fields of each directory below ``root``, newest first."""
    numbered = []
    for name in names_in(root):
        record = _read_fingerprint(root / name)
        if record is not None:
            numbered.append((int(record["number"]), root / name, dict(record["fields"])))
    return sorted(numbered, key=lambda entry: entry[0], reverse=True)


def _read_fingerprint(directory: Location) -> dict[str, Any] | None:
    try:
        record = read_record(directory / FINGERPRINT_NAME)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    # That of another directory is whole, and wrong here.
    return record if directory.name == str(record["fingerprint"])[:16] else None


def find_directories(root: Location, spec: Mapping[str, Any]) -> list[Location]:
    """List the directories below ``root`` whose fingerprint holds this spec, newest first."""
    return [path for path, fields in newest_first(root) if fields["spec"] == spec]


def find_finished(
    root: Location, fields: Mapping[str, Any], inputs: Inputs
) -> tuple[Plan, Manifest]:
    """Return plan and manifest of the stage with this fingerprint and inputs; write nothing.

    Raises:
        ConfigError: if the stage is not finished for them; the message says what differs from what
            is there.
    """
    root = to_location(root)
    directory = root / digest(fields)[:16]
    if read_fields(directory) is None:
        others = newest_first(root)
        raise ConfigError(_nearest_difference(root, fields) if others else "nothing is there")
    try:
        plan, unplanned = find_plan(directory, inputs)
        if unplanned:
            raise ConfigError(why_not_planned(directory, inputs))
    except DamagedFileError as error:
        raise ConfigError(f"{error}; run the stage again to mend it") from error
    return plan, Manifest.load(directory, plan.content)
