"""A quick version of `make torture`: a few kills of runs with every executor and store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from store import s3_store
from torture import KINDS, ray_cluster, torture, undisturbed


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    pytest.importorskip("moto")
    with s3_store() as url:
        yield url


@pytest.fixture(scope="module")
def address(bucket: str) -> Iterator[str]:
    """Address of a Ray cluster whose workers have the bucket's settings in their environment."""
    pytest.importorskip("ray")
    with ray_cluster() as cluster:
        yield cluster.address


@pytest.mark.parametrize(("executor", "store"), KINDS)
def test_kills_lose_nothing(
    executor: str, store: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    expected = undisturbed(tmp_path)
    address = request.getfixturevalue("address") if executor == "ray" else None
    root = request.getfixturevalue("bucket") if store == "s3" else str(tmp_path)
    result = torture(root, executor, address, seed=0, num_kills=2, expected=expected)
    assert not result.losses
