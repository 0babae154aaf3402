"""A stage's directory: one per fingerprint, with its plan and its ledger."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sekd.errors import ConfigError
from sekd.io.files import is_unusable, names_in, write_atomically
from sekd.io.hashing import digest
from sekd.io.locations import Location, to_location
from sekd.io.records import seal, unseal
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

        A stored plan is kept as it is; ``make_plan`` is called only where there is none.

        Raises:
            ConfigError: if nothing can be written there.
        """
        root = to_location(root)
        try:
            directory = open_directory(root, fields)
            plan = open_plan(directory, make_plan)
            return cls(root.name, directory, digest(fields), plan, Ledger(directory))
        except OSError as error:
            if not is_unusable(error):
                raise
            raise ConfigError(
                f"{root}: cannot be written ({error}); set another run_dir"
            ) from error

    def states(self, observer: Observer | None = None) -> list[ShardState]:
        """Status of every shard; see :meth:`Ledger.states`."""
        return self.ledger.states(self.plan, observer)


def open_directory(root: Location, fields: Mapping[str, Any]) -> Location:
    """The directory of these fields' fingerprint below ``root``, created if need be.

    A new directory beside others is announced with what differs, field by field.
    """
    fingerprint = digest(fields)
    directory: Location = root / fingerprint[:16]
    if read_fields(directory) is None:
        number, found = 1, _numbered(root)
        if found:
            last, earlier, old_fields = found[0]
            number = last + 1
            changes = "; ".join(differences(old_fields, fields))
            logger.info("%s: not the config of %s: %s", root.name, earlier, changes)
        # Numbered, because a clock may be set back and then the newest would look old.
        content = seal({"fingerprint": fingerprint, "number": number, "fields": fields})
        write_atomically(directory / FINGERPRINT_NAME, content)
    return directory


def read_fields(directory: Location) -> dict[str, Any] | None:
    """The fields that a directory's fingerprint hashes; ``None`` without sound ones."""
    record = _read_record(directory)
    return None if record is None else dict(record["fields"])


def newest_first(root: Location) -> list[tuple[Location, dict[str, Any]]]:
    """Directories below ``root`` with their fingerprint fields, newest first."""
    return [(directory, fields) for _, directory, fields in _numbered(root)]


def _numbered(root: Location) -> list[tuple[int, Location, dict[str, Any]]]:
    found = []
    for name in names_in(root):
        record = _read_record(root / name)
        if record is not None:
            found.append((int(record["number"]), root / name, dict(record["fields"])))
    return sorted(found, key=lambda entry: entry[0], reverse=True)


def _read_record(directory: Location) -> dict[str, Any] | None:
    try:
        return unseal((directory / FINGERPRINT_NAME).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def directories(root: Location, spec: Mapping[str, Any]) -> list[Location]:
    """Directories below ``root`` whose fingerprint holds this spec, newest first."""
    return [path for path, fields in newest_first(root) if fields["spec"] == spec]


def finished(root: Location, spec: Mapping[str, Any]) -> Manifest | None:
    """The newest finished stage below ``root`` whose fingerprint holds this spec."""
    for directory in directories(root, spec):
        try:
            return Manifest.load(directory)
        except ConfigError:
            logger.debug("%s is not finished", directory)
    return None


def changes_since(root: Location, spec: Mapping[str, Any]) -> list[str]:
    """How ``spec`` differs from that of the newest directory below ``root``, field by field."""
    for _, fields in newest_first(root)[:1]:
        return differences(fields["spec"], spec)
    return []
