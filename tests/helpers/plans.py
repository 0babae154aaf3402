"""Plans without a directory, and the manifest that counts in one."""

from __future__ import annotations

from collections.abc import Sequence

from sekd.data.shards import Shard
from sekd.io.locations import Location
from sekd.pipeline.inputs import SampleInputs
from sekd.pipeline.manifest import Manifest
from sekd.pipeline.plan import Plan, newest_revision


def split(ids: Sequence[str], shard_size: int) -> Plan:
    """Return the plan that a stage would make of new samples."""
    new = SampleInputs.of_ids(ids, shard_size).select([]).new
    return Plan(tuple(Shard(n, shard.sample_ids, shard.key) for n, shard in enumerate(new)))


def manifest_of(directory: Location) -> Manifest:
    """Load the manifest of the newest revision of a stage's plan."""
    revision = newest_revision(directory)
    assert revision is not None
    return Manifest.load(directory, revision.content)
