"""Sources of samples: one file per layout, and the registry of all layouts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sekd.config import DatasetSpec
from sekd.config.messages import nearest
from sekd.data.sources.aircraft import AircraftSource
from sekd.data.sources.base import Source
from sekd.data.sources.cifar import CifarSource
from sekd.data.sources.cub import CubSource
from sekd.data.sources.folder import FolderSource
from sekd.data.sources.food101 import Food101Source
from sekd.data.sources.huggingface import HuggingFaceSource
from sekd.data.sources.imagenet import ImageNetSource
from sekd.data.sources.inat21 import INat21Source
from sekd.data.sources.listing import ListSource
from sekd.data.sources.table import TableSource
from sekd.data.sources.webdataset import WebDatasetSource
from sekd.errors import ConfigError

SOURCES: Mapping[str, Source] = {
    "folder": FolderSource(),
    "table": TableSource(),
    "list": ListSource(),
    "huggingface": HuggingFaceSource(),
    "webdataset": WebDatasetSource(),
    "inat21": INat21Source(),
    "cub200": CubSource(),
    "food101": Food101Source(),
    "imagenet": ImageNetSource(),
    "aircraft": AircraftSource(),
    "cifar100": CifarSource(),
}
"""Name of a layout, as ``layout`` of a dataset gives it -> its source."""


def source_of(spec: DatasetSpec) -> Source:
    """Return the source that reads a dataset.

    Raises:
        ConfigError: if there is no layout of that name, or it reads the setting that is not given.
    """
    name = spec.layout or ("folder" if spec.images is not None else "table")
    files = files_of(spec)
    if name not in SOURCES:
        raise ConfigError(f"{files}: unknown layout {name!r}{nearest(name, SOURCES)}")
    source = SOURCES[name]
    if getattr(spec, source.setting) is None:
        raise ConfigError(
            f"{files}: the layout {name!r} reads `{source.setting}`; give that setting, or leave "
            "`layout` out"
        )
    return source


def files_of(spec: DatasetSpec) -> Path:
    """Return the folder or the table that a dataset is read from."""
    files = spec.images or spec.table
    assert files is not None  # a DatasetSpec has exactly one of the two
    return files
