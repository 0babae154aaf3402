"""The place of a run: a directory of this machine, or a URL of a remote store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias

from upath import UPath

from sekd.io.hashing import digest

Location: TypeAlias = Path | UPath
"""A plain ``Path`` on this machine, a ``UPath`` on a remote store; both are joined by ``/``."""


def to_location(url: str | Location) -> Location:
    """Turn a path (``runs/birds``) or a URL (``s3://bucket/birds``) into a :data:`Location`.

    A leading ``~`` is the home directory. Credentials come from the environment, as each store's
    own library reads them. Listings are never cached: other machines write to the same place.
    """
    if isinstance(url, Path):
        return expand_home(url)
    path = UPath(url, use_listings_cache=False) if "://" in str(url) else UPath(url)
    return expand_home(Path(path)) if isinstance(path, Path) else path


def expand_home(path: Path) -> Path:
    """Replace a leading ``~`` by the home directory; a user that does not exist is left as is."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def cache_directory() -> Path:
    """Return ``$XDG_CACHE_HOME/sekd``. Everything in it may be removed at any time."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "sekd"


def local_directory(run_dir: Location) -> Path:
    """Return the directory of this machine for a run's logs and checkpoints.

    It is the run directory itself, or a folder of the cache if the run is on a remote store.
    """
    if isinstance(run_dir, Path):
        return run_dir
    return cache_directory() / "runs" / digest(str(run_dir))[:16]
