"""The quick version of `make torture`: few kills over every executor and store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from store import s3_store
from torture import KINDS, ray_cluster, torture, undisturbed


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    pytest.importorskip("ray")
    with ray_cluster() as cluster:
        yield cluster.address


@pytest.mark.parametrize(("executor", "store"), KINDS)
def test_kills_lose_nothing(
    executor: str, store: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    expected = undisturbed(tmp_path)
    address = request.getfixturevalue("cluster") if executor == "ray" else None
    if store == "s3":
        pytest.importorskip("moto")
        with s3_store() as bucket:
            result = torture(bucket, executor, address, 0, 2, expected)
    else:
        result = torture(str(tmp_path), executor, address, 0, 2, expected)
    assert not result.losses
