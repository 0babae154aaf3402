"""A stage's directory: there is one for each fingerprint, with its plan and its ledger."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sekd.errors import ConfigError
from sekd.io.files import is_storage_error, names_in, write_atomically
from sekd.io.hashing import digest
from sekd.io.locations import Location, to_location
from sekd.io.records import read_record, seal
from sekd.pipeline.fingerprint import differences
from sekd.pipeline.ledger import Ledger, ShardState
from sekd.pipeline.liveness import Observer
from sekd.pipeline.manifest import Manifest
from sekd.pipeline.plan import Plan, open_plan

logger = logging.getLogger(__name__)

FINGERPRINT_NAME = "fingerprint.json"


@dataclass(frozen=True)
class Stage:
    """A stage's directory for one fingerprint: ``<root>/<first 16 digits>``."""

    name: str
    directory: Location
    fingerprint: str
    plan: Plan
    ledger: Ledger

    @classmethod
    def open(
        cls, root: Location, fields: Mapping[str, Any], make_plan: Callable[[], Plan]
    ) -> Stage:
        """Open the directory of this fingerprint, or create it with its plan.

        A stored plan is kept as it is; ``make_plan`` is called only if none is stored.

        Raises:
            ConfigError: if nothing can be written there.
        """
        root = to_location(root)
        try:
            directory = open_directory(root, fields)
            plan = open_plan(directory, make_plan)
            return cls(root.name, directory, digest(fields), plan, Ledger(directory))
        except OSError as error:
            if not is_storage_error(error):
                raise
            raise ConfigError(
                f"{root}: cannot be written ({error}); set another run_dir"
            ) from error

    def states(self, observer: Observer | None = None) -> list[ShardState]:
        """Derive the status of every shard; see :meth:`Ledger.states`."""
        return self.ledger.states(self.plan, observer)


def open_directory(root: Location, fields: Mapping[str, Any]) -> Location:
    """Return the directory of these fields' fingerprint below ``root``; create it if need be.

    If other directories exist, the log says how the new one differs from the newest of them.
    """
    fingerprint = digest(fields)
    directory: Location = root / fingerprint[:16]
    if read_fields(directory) is None:
        number, earlier = 1, _numbered_directories(root)
        if earlier:
            last_number, last_directory, last_fields = earlier[0]
            number = last_number + 1
            changes = "; ".join(differences(last_fields, fields))
            logger.info(
                "%s: starts anew; %s is kept, and differs in %s", root.name, last_directory, changes
            )
        # Directories are numbered, because a clock may be set back, and then the newest looks old.
        content = seal({"fingerprint": fingerprint, "number": number, "fields": fields})
        write_atomically(directory / FINGERPRINT_NAME, content)
    return directory


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
        return read_record(directory / FINGERPRINT_NAME)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def find_directories(root: Location, spec: Mapping[str, Any]) -> list[Location]:
    """List the directories below ``root`` whose fingerprint holds this spec, newest first."""
    return [path for path, fields in newest_first(root) if fields["spec"] == spec]


def find_finished(root: Location, spec: Mapping[str, Any]) -> Manifest | None:
    """Return the newest finished stage below ``root`` whose fingerprint holds this spec."""
    for directory in find_directories(root, spec):
        try:
            return Manifest.load(directory)
        except ConfigError:
            logger.debug("%s is not finished", directory)
    return None


def changes_since(root: Location, spec: Mapping[str, Any]) -> list[str]:
    """Say how ``spec`` differs from that of the newest directory below ``root``, by field."""
    directories_and_fields = newest_first(root)
    if not directories_and_fields:
        return []
    _, newest_fields = directories_and_fields[0]
    return differences(newest_fields["spec"], spec)
