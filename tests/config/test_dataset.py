"""The section ``data``: a dataset has one source of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sekd.config import DatasetSpec


@pytest.mark.parametrize("sources", [{}, {"images": Path("i"), "table": Path("t.csv")}])
def test_dataset_has_one_source(sources: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="give either images"):
        DatasetSpec(taxonomy=Path("t.json"), **sources)
