"""Where a run lives: a directory of this machine, or one of a remote store by its URL."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias

from upath import UPath

Location: TypeAlias = Path | UPath
"""A plain ``Path`` on this machine, a ``UPath`` on a remote store; both are joined by ``/``."""


def locate(url: str | Location) -> Location:
    """A path (``runs/birds``) or a URL (``s3://bucket/birds``) as something to join and open.

    Credentials come from the environment, as each store's own library reads them. Listings are
    never cached: other machines write to the same place.
    """
    if isinstance(url, Path):
        return url
    path = UPath(url, use_listings_cache=False) if "://" in str(url) else UPath(url)
    return Path(path) if isinstance(path, Path) else path


def cache_directory() -> Path:
    """``$XDG_CACHE_HOME/sekd``; whatever is in it may be removed at any time."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "sekd"
