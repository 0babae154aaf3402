"""The manifest: the one list of a finished stage's files that later stages read.

It is written when every shard is done and its files were hashed again; no reader ever globs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sekd.data.hashing import hash_file
from sekd.errors import ConfigError, FatalError
from sekd.pipeline.files import write_atomically
from sekd.pipeline.ledger import ShardState
from sekd.pipeline.plan import Plan

MANIFEST_NAME = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """A finished stage, as its ``manifest.json`` says."""

    directory: Path
    content: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """Of the stage that made the files."""
        return str(self.content["fingerprint"])

    @property
    def num_samples(self) -> int:
        """Samples done, quarantined ones not counted."""
        return int(self.content["num_done"])

    @property
    def quarantined(self) -> list[dict[str, Any]]:
        """Samples that were set aside: ``sample_id``, ``reason``, ``level``."""
        return list(self.content["quarantined"])

    def files(self, role: str) -> dict[int, Path]:
        """Shard index -> the file of that role."""
        return {
            shard["shard"]: self.directory / str(entry["path"])
            for shard in self.content["shards"]
            for entry in shard["files"]
            if entry["role"] == role
        }

    def hashes(self) -> list[str]:
        """SHA-256 of every file, in order of shards and roles."""
        return [str(e["sha256"]) for shard in self.content["shards"] for e in shard["files"]]

    def figures(self, name: str) -> list[Any]:
        """One measured figure of every shard that has it."""
        figures = [shard["figures"] for shard in self.content["shards"]]
        return [measured[name] for measured in figures if name in measured]

    @classmethod
    def load(cls, directory: Path) -> Manifest:
        """Read ``manifest.json``.

        Raises:
            ConfigError: if the stage is not finished.
        """
        path = directory / MANIFEST_NAME
        if not path.is_file():
            raise ConfigError(f"{path}: not there, the stage is not finished; run it again")
        return cls(directory, json.loads(path.read_text("utf-8")))

    @classmethod
    def finalise(
        cls, directory: Path, fingerprint: str, plan: Plan, states: Sequence[ShardState]
    ) -> Manifest:
        """Verify every shard's files against their records and write the manifest.

        Raises:
            FatalError: if a file is not what its record says, or samples do not add up.
        """
        shards, quarantined, num_done = [], [], 0
        for shard, state in zip(plan, states, strict=True):
            record = state.record
            if state.status != "done" or record is None:
                raise FatalError(f"shard {shard.index} is {state.status}, not done")
            for entry in record["files"]:
                path = directory / entry["path"]
                if not path.is_file() or hash_file(path) != entry["sha256"]:
                    raise FatalError(
                        f"{path}: not the file that shard {shard.index} committed; remove "
                        f"{directory / 'attempts'}/{shard.index:05d}-*.end.json to redo the shard"
                    )
            num_done += record["num_done"]
            quarantined += record["quarantined"]
            kept = ("shard", "attempt", "num_done", "files", "figures")
            shards.append({key: record[key] for key in kept})
        if num_done + len(quarantined) != plan.num_samples:
            raise FatalError(
                f"{directory}: {num_done} done + {len(quarantined)} quarantined samples are not "
                f"the {plan.num_samples} planned"
            )
        content = {
            "fingerprint": fingerprint,
            "num_planned": plan.num_samples,
            "num_done": num_done,
            "quarantined": quarantined,
            "shards": shards,
        }
        write_atomically(directory / MANIFEST_NAME, json.dumps(content, indent=1) + "\n")
        return cls(directory, content)
