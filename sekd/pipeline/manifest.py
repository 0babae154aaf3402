"""The manifest: the one list of a finished stage's files that later stages read.

It is written when every shard is done and its files were checked again; no reader ever globs. There
is one for each content that a stage was finished for, and it is named by that content.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sekd.data.shards import Shard
from sekd.errors import ConfigError, FatalError
from sekd.io.cache import fetch
from sekd.io.files import create_exclusively, names_in, remove, sizes_below
from sekd.io.hash_memo import HashMemo
from sekd.io.hashing import digest
from sekd.io.locations import Location
from sekd.io.records import DamagedFileError, read_record, seal
from sekd.pipeline.ledger import Ledger, ShardState
from sekd.pipeline.plan import Plan, newest_revision
from sekd.pipeline.progress import show_progress

_SHARD_KEYS = ("shard", "key", "attempt", "num_done", "files", "figures")
"""Fields of an end record that the manifest repeats."""
_SHOWN_FROM_BYTES = 1 << 30
"""Progress is shown where at least this much must be read again."""


def manifest_name(content: str) -> str:
    """Name the manifest of a content (:attr:`Plan.content`), e.g. ``manifest-0f3a….json``."""
    return f"manifest-{content[:16]}.json"


def manifest_names(directory: Location) -> list[str]:
    """List the manifests in a stage's directory."""
    return [name for name in names_in(directory) if name.startswith("manifest-")]


@dataclass(frozen=True)
class Manifest:
    """A finished stage with one content, as its manifest describes it."""

    directory: Location
    content: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """The hash of the stage's settings and of the key and files of every shard."""
        return str(self.content["fingerprint"])

    @property
    def path(self) -> Location:
        """The manifest's file."""
        return self.directory / manifest_name(self.content["content"])

    @property
    def num_samples(self) -> int:
        """Number of samples done, without quarantined ones."""
        return int(self.content["num_done"])

    @property
    def quarantined(self) -> list[dict[str, Any]]:
        """Samples that were set aside: ``sample_id``, ``reason``, ``level``."""
        return list(self.content["quarantined"])

    @property
    def attempts(self) -> list[tuple[int, int]]:
        """Shard and number of each attempt whose files these are."""
        return [(shard["shard"], shard["attempt"]) for shard in self.content["shards"]]

    def files(self, role: str) -> Mapping[int, Path]:
        """Map a shard's index to its file of that role, on this machine."""
        return {shard: path for shard, (path,) in self.files_by_shard(role).items()}

    def files_by_shard(self, *roles: str) -> FilesByShard:
        """Map a shard's index to its files of these roles, without shards that lack one.

        Files of a remote store are fetched when their shard is looked up.
        """
        return _group_files(self.directory, self.content["shards"], roles)

    def keys_of_files(self) -> dict[int, str]:
        """Map a shard's index to the hash of its files: the key of what a later stage makes of it.

        Shards of other samples have other files, because a file holds the ids of its samples.
        """
        return {shard["shard"]: _files_key(shard["files"]) for shard in self.content["shards"]}

    def shards_by_key(self) -> dict[str, int]:
        """Map a shard's key to its index."""
        return {shard["key"]: shard["shard"] for shard in self.content["shards"]}

    def stats(self, name: str) -> list[Any]:
        """Return one measurement of every shard that has it, in order of shards."""
        stats_of_shards = [shard["figures"] for shard in self.content["shards"]]
        return [stats[name] for stats in stats_of_shards if name in stats]

    @classmethod
    def load(cls, directory: Location, content: str) -> Manifest:
        """Read the manifest of a content.

        Args:
            content: see :attr:`sekd.pipeline.plan.Plan.content`.

        Raises:
            ConfigError: if the stage is not finished for it, or its manifest is damaged.
        """
        path = directory / manifest_name(content)
        try:
            return cls(directory, read_record(path))
        except FileNotFoundError as error:
            raise ConfigError(
                f"{path}: not there, the stage is not finished; run it again"
            ) from error
        except DamagedFileError as error:
            raise ConfigError(f"{error}; run the stage again to mend it") from error

    def is_sound(self, ledger: Ledger) -> bool:
        """Tell whether all its attempts still count and their files are what was committed.

        An attempt with a file that is missing or another one is revoked. Files of this machine are
        hashed, but for those whose hash is remembered; of files on a remote store, which keeps
        checksums itself, the sizes are checked.

        Raises:
            StorageError: if a file cannot be read, which says nothing about its content.
        """
        _revoke_damaged(ledger, self.content["shards"])
        return not ledger.revoked() & set(self.attempts)

    @classmethod
    def finalise(
        cls,
        ledger: Ledger,
        fingerprint: str,
        plan: Plan,
        states: Sequence[ShardState],
    ) -> Manifest | None:
        """Check every shard's files against their records and write the manifest.

        They are checked as :meth:`is_sound` does. An attempt whose files are damaged is revoked,
        and then no manifest is written. If another runner wrote a manifest first, that one is kept.

        Returns:
            The manifest, or ``None`` if files were damaged.

        Raises:
            FatalError: if a shard is not done, or the samples do not add up to those planned.
        """
        shards, quarantined, num_done = [], [], 0
        for shard, state in zip(plan, states, strict=True):
            record = state.record
            if state.status != "done" or record is None:
                raise FatalError(f"shard {shard.index} is {state.status}, not done")
            num_done += record["num_done"]
            quarantined += record["quarantined"]
            shards.append({key: record[key] for key in _SHARD_KEYS})
        directory = ledger.directory
        if num_done + len(quarantined) != plan.num_samples:
            raise FatalError(
                f"{directory}: {num_done} done + {len(quarantined)} quarantined samples are not "
                f"the {plan.num_samples} planned"
            )
        if _revoke_damaged(ledger, shards):
            return None
        content = {
            "stage": fingerprint,
            "content": plan.content,
            "fingerprint": digest(
                [fingerprint, [[shard["key"], _files_key(shard["files"])] for shard in shards]]
            ),
            "num_planned": plan.num_samples,
            "num_done": num_done,
            "quarantined": quarantined,
            "shards": shards,
        }
        try:
            create_exclusively(directory / manifest_name(plan.content), seal(content))
        except FileExistsError:
            return cls.load(directory, plan.content)
        return cls(directory, content)

    @staticmethod
    def discard(directory: Location, content: str) -> None:
        """Remove a manifest that is damaged or names revoked attempts."""
        if manifest_name(content) in names_in(directory):
            remove(directory / manifest_name(content))


def find_done_files(directory: Location, *roles: str) -> FilesByShard:
    """Map the index of each shard that counts and is done to its files of these roles.

    The stage need not be finished. This is for looking at results; later stages read a manifest.
    """
    return _group_files(directory, _done_records(directory), roles)


def find_done_keys(directory: Location) -> dict[int, tuple[str, str]]:
    """Map the index of each shard that counts and is done to its key and that of its files."""
    return {
        record["shard"]: (record["key"], _files_key(record["files"]))
        for record in _done_records(directory)
    }


def _done_records(directory: Location) -> list[Mapping[str, Any]]:
    ledger, revision = Ledger(directory), newest_revision(directory)
    counted = revision.shards if revision else set()
    states = ledger.states(Shard(index, ()) for index in ledger.tried() if index in counted)
    return [state.record for state in states if state.status == "done" and state.record]


def _files_key(files: Iterable[Mapping[str, Any]]) -> str:
    return digest([[entry["role"], entry["sha256"]] for entry in files])


def _group_files(
    directory: Location, records: Iterable[Mapping[str, Any]], roles: Sequence[str]
) -> FilesByShard:
    entries = {}
    for record in records:
        by_role = {entry["role"]: entry for entry in record["files"]}
        if by_role.keys() >= set(roles):
            entries[record["shard"]] = tuple(by_role[role] for role in roles)
    return FilesByShard(directory, entries)


@dataclass(frozen=True, eq=False)
class FilesByShard(Mapping[int, tuple[Path, ...]]):
    """Maps a shard's index to some of its files; files of a remote store are fetched on look-up."""

    directory: Location
    entries: Mapping[int, Sequence[Mapping[str, Any]]]

    def __getitem__(self, shard: int) -> tuple[Path, ...]:
        """Return the files of a shard, on this machine.

        Raises:
            ShardError: if one of them is not what was committed.
        """
        return tuple(
            fetch(self.directory, str(entry["path"]), str(entry["sha256"]))
            for entry in self.entries[shard]
        )

    def renumbered(self, numbers: Mapping[int, int]) -> FilesByShard:
        """Return the files under other indices: new index -> index here."""
        entries = {new: self.entries[old] for new, old in numbers.items()}
        return FilesByShard(self.directory, entries)

    def __iter__(self) -> Iterator[int]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


def _revoke_damaged(ledger: Ledger, shards: Sequence[Mapping[str, Any]]) -> bool:
    """Revoke the attempts of which a file is not what was committed; tell whether there are any."""
    directory = ledger.directory
    entries = [entry for shard in shards for entry in shard["files"]]
    if isinstance(directory, Path):
        damaged = _damaged_here(directory, entries)
    else:
        sizes = sizes_below(ledger.data)
        damaged = {
            str(entry["path"])
            for entry in entries
            if sizes.get(str(entry["path"]).removeprefix("data/")) != entry["bytes"]
        }
    for shard in shards if damaged else ():
        for entry in shard["files"]:
            if entry["path"] in damaged:
                reason = f"{directory / str(entry['path'])}: not what was committed"
                ledger.revoke(shard["shard"], shard["attempt"], reason)
    return bool(damaged)


def _damaged_here(directory: Path, entries: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the paths, as the entries have them, of the files that are not what was committed."""
    memo = HashMemo.of(directory)
    unknown = [entry for entry in entries if memo.recall(str(entry["path"])) != entry["sha256"]]
    damaged = set()
    with ExitStack() as stack:
        progress = None
        if sum(entry["bytes"] for entry in unknown) > _SHOWN_FROM_BYTES:
            title = f"checking {directory.parent.name}"
            progress = stack.enter_context(show_progress(title, len(unknown), "files"))
        for entry in unknown:
            path = str(entry["path"])
            try:
                is_whole = memo.hash(path) == entry["sha256"]
            except FileNotFoundError:
                is_whole = False
            if not is_whole:
                damaged.add(path)
            if progress is not None:
                progress.advance(1)
    return damaged
