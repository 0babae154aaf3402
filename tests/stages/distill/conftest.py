"""One shard of the tiny model's signals."""

from __future__ import annotations

from pathlib import Path

import pytest
from elicited import Elicited, elicit


@pytest.fixture(scope="package")
def elicited(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Elicited:
    return elicit(world, tmp_path_factory.mktemp("signals"))
