"""Download images that a table names by an http(s) address, where the config asks for it.

``downloads`` of a dataset names the folder. An image that is in it already is not asked for again,
so a run that was stopped goes on, and the folder can be copied to a machine without a network.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from sekd.data.image_refs import ImageRef
from sekd.io.files import replace_atomically

logger = logging.getLogger(__name__)

_NUM_THREADS = 16
_NUM_TRIES = 3
_TIMEOUT = 60.0
"""Seconds without an answer until an attempt is given up."""
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses of a server that may answer later."""


def is_address(name: str) -> bool:
    """Tell whether a table's cell names an image by an http or https address."""
    return name.lower().startswith(("http://", "https://"))


def download_images(names: Sequence[str], folder: Path) -> list[str]:
    """Replace each address among names by the path of its download; other names stay as they are.

    Args:
        names: cells of a table's image column.
        folder: where the downloads are kept, by the SHA-256 of their address.

    Returns:
        Texts that :meth:`ImageRef.parse` reads; an address without an answer is unusable, with the
        reason, and is tried again when the dataset is loaded again.
    """
    addresses = list(dict.fromkeys(filter(is_address, names)))
    paths = {address: folder / _file_name(address) for address in addresses}
    missing = [address for address in addresses if not paths[address].exists()]
    found = {address: str(path.resolve()) for address, path in paths.items()}
    if missing:
        logger.info("downloading %d images into %s", len(missing), folder)
        with ThreadPoolExecutor(_NUM_THREADS) as threads:
            reasons = threads.map(lambda address: _download(address, paths[address]), missing)
            for address, reason in zip(missing, reasons, strict=True):
                if reason is not None:
                    found[address] = str(ImageRef.unusable(reason, address))
    return [found.get(name, name) for name in names]


def _file_name(address: str) -> str:
    suffix = PurePosixPath(urlsplit(address).path).suffix
    return hashlib.sha256(address.encode()).hexdigest() + (suffix if suffix.isascii() else "")


def _download(address: str, path: Path) -> str | None:
    """Write what the address answers into a file; return why it gave nothing."""
    for attempt in range(1, _NUM_TRIES + 1):
        try:
            request = Request(address, headers={"User-Agent": "sekd"})  # noqa: S310  see is_address
            with (
                urlopen(request, timeout=_TIMEOUT) as answer,  # noqa: S310
                replace_atomically(path) as temporary,
                temporary.open("wb") as file,
            ):
                shutil.copyfileobj(answer, file)
            return None
        except (OSError, HTTPException, ValueError) as error:
            is_final = isinstance(error, HTTPError) and error.code not in _BUSY
            if is_final or isinstance(error, ValueError) or attempt == _NUM_TRIES:
                return f"it cannot be downloaded: {error}"
            time.sleep(2.0 ** (attempt - 1))
    raise AssertionError("the last attempt returns")
