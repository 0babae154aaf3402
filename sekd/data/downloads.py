"""Download images that a table names by an http(s) address, where the config asks for it.

``downloads`` of a dataset names the folder. An image that is in it already is not asked for again,
so a run that was stopped goes on, and the folder can be copied to a machine without a network.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from sekd.data.image_refs import ImageRef
from sekd.errors import FatalError
from sekd.io.faults import StorageError, retry
from sekd.io.files import write_atomically

logger = logging.getLogger(__name__)

_NUM_THREADS = 16
_DELAYS = (1.0, 2.0)
"""Seconds before each new try; of many addresses, some belong to servers that are gone."""
_MAX_SILENT = 50
"""Addresses in a row without an answer after which the network is taken to be broken."""
_TIMEOUT = 60.0
"""Seconds without an answer until an attempt is given up."""


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

    Raises:
        FatalError: if the network gives no answer at all, or nothing can be written.
    """
    addresses = list(dict.fromkeys(filter(is_address, names)))
    paths = {address: folder / _file_name(address) for address in addresses}
    missing = [address for address in addresses if not paths[address].exists()]
    found = {address: str(path.resolve()) for address, path in paths.items()}
    if missing:
        logger.info("downloading %d images into %s", len(missing), folder)
        with ThreadPoolExecutor(_NUM_THREADS) as threads:
            results = threads.map(lambda address: _download(address, paths[address]), missing)
            num_silent = 0
            for address, (reason, is_answered) in zip(missing, results, strict=True):
                num_silent = 0 if is_answered else num_silent + 1
                if num_silent == _MAX_SILENT:
                    threads.shutdown(wait=False, cancel_futures=True)
                    raise FatalError(
                        f"{_MAX_SILENT} addresses in a row gave no answer, the last one {address}: "
                        f"{reason}; run again when the network works, what is there stays there"
                    )
                if reason is not None:
                    found[address] = str(ImageRef.unusable(reason, address))
    return [found.get(name, name) for name in names]


def _file_name(address: str) -> str:
    suffix = PurePosixPath(urlsplit(address).path).suffix
    return hashlib.sha256(address.encode()).hexdigest() + (suffix if suffix.isascii() else "")


def _download(address: str, path: Path) -> tuple[str | None, bool]:
    """Write what the address answers into a file.

    Returns:
        Why it gave nothing, and whether that is an answer of its server about this image.

    Raises:
        StorageError: if the file cannot be written.
    """
    try:
        content = retry(lambda: _read_answer(address), address, _DELAYS)
    except StorageError as error:
        return f"it cannot be downloaded: {error.__cause__}", error.kind == "blocked"
    except (OSError, HTTPException, ValueError) as error:
        return f"it cannot be downloaded: {error}", True
    write_atomically(path, content)
    return None, True


def _read_answer(address: str) -> bytes:
    request = Request(address, headers={"User-Agent": "sekd"})  # noqa: S310  see is_address
    with urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310
        content: bytes = answer.read()  # it raises IncompleteRead if the connection breaks off
    return content
