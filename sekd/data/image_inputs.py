"""Gather the images that a person names: files, folders, tables, tars, and lists of paths.

What cannot be used becomes a sample whose reading gives the reason, so that it is reported like an
image that is broken. Nothing is opened but tables, lists and the indexes of tars.
"""

from __future__ import annotations

import logging
import os
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from sekd.config import DatasetSpec
from sekd.config.dataset import FOLDERS
from sekd.config.messages import nearest
from sekd.data.classes import MatchedRows
from sekd.data.image_folders import is_image, say_skipped, walk_images
from sekd.data.image_refs import ImageRef
from sekd.data.samples import Samples
from sekd.data.sources.base import Rows, escape, is_clean, set_aside
from sekd.data.sources.huggingface import HuggingFaceSource
from sekd.data.sources.table import TableSource
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError
from sekd.io.formats import FORMATS
from sekd.io.tables import column_names
from sekd.io.text import read_lines, refuse_irregular

logger = logging.getLogger(__name__)

STANDARD_INPUT = "-"
_LISTS = (".txt", ".lst")
_IMAGE_COLUMNS = ("image", "file_name", "filename", "filepath", "image_path", "path", "file")
"""Columns of a table that hold paths of images, of which the first that is there is taken."""


class _Named(NamedTuple):
    """An image as a person names it, and the text of its reference with an absolute path."""

    name: str
    image: str


def samples_of(images: Mapping[str, str], taxonomy: Taxonomy) -> Samples:
    """Make samples without labels of images.

    Args:
        images: as :func:`list_images` returns them.
    """
    names = list(images)
    rows = MatchedRows(names, list(images.values()), [None] * len(names), None)
    return Samples.gather([rows], taxonomy, Path("/"))


def list_images(
    inputs: Sequence[str],
    *,
    image_column: str | None = None,
    standard_input: Iterable[str] = (),
) -> dict[str, str]:
    """List the images of several inputs, in their order.

    An image that several inputs name is taken once, which is said. Its id is its first name: the
    path as it was given, or what a table calls it.

    Args:
        inputs: paths of images; of folders, with all images below them; of tars; of tables with a
            row for each image; of texts (.txt) or pipes with a path in each line; or ``-``.
        image_column: of the tables; by default the first of the usual names.
        standard_input: the lines of ``-``, each a path.

    Returns:
        Name of each image -> the text of its reference, with an absolute path.

    Raises:
        ConfigError: if an input is not there or cannot be read, or no image is left.
    """
    image_of: dict[str, str] = {}
    seen: set[str] = set()
    num_repeated = 0
    empty: list[str] = []
    for each in inputs:
        for name, image in _read_input(each, image_column, standard_input, empty):
            if image in seen:
                num_repeated += 1
                continue
            seen.add(image)
            image_of[name if name not in image_of else image] = image
    if not image_of:
        raise ConfigError("; ".join(empty) or f"{', '.join(inputs)}: no image in it")
    for reason in empty:
        logger.warning("%s", reason)
    if num_repeated:
        logger.warning("%d images are named more than once; each is taken once", num_repeated)
    return image_of


def _read_input(
    text: str, image_column: str | None, standard_input: Iterable[str], empty: list[str]
) -> Iterator[_Named]:
    """Read one input; why it holds no image goes into ``empty``."""
    if text == STANDARD_INPUT:
        yield from _of_lines(standard_input, Path())
        return
    path = Path(os.path.expanduser(text))  # noqa: PTH111  pathlib's raises for a file ~x.jpg
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if path.is_dir():
        yield from _of_folder(text, path, empty)
    elif ".tar" in suffixes or ".tgz" in suffixes:
        yield from _of_tar(text, path, empty)
    elif path.is_fifo():
        yield from _of_lines((line for _, line in read_lines(path, takes_pipes=True)), Path())
    elif suffixes and suffixes[-1] in _LISTS:
        yield from _of_lines((line for _, line in read_lines(path)), path.parent)
    elif any(suffix in FORMATS for suffix in suffixes[-2:]):
        yield from _of_table(path, image_column)
    elif path.exists() or is_image(path.name) or "://" in text:
        yield _absolute(text, text if "://" in text else str(path), Path())
    else:
        raise ConfigError(f"{text}: no such file or folder")


def _absolute(name: str, image: str, root: Path) -> _Named:
    """Name an image whose path, or whose reference, starts at a folder."""
    if not is_clean(image):
        return _Named(escape(name), set_aside(image, "its name is not in UTF-8; rename it"))
    ref = ImageRef.parse(image)
    if ref.scheme == "unusable":
        return _Named(name, str(ref))
    place = (root / ref.path).absolute()
    return _Named(name, str(ImageRef(place, ref.scheme, ref.place)))


def _of_lines(lines: Iterable[str], root: Path) -> Iterator[_Named]:
    for line in lines:
        if text := line.strip("\r\n"):
            yield _absolute(text, text, root)


def _of_folder(text: str, root: Path, empty: list[str]) -> Iterator[_Named]:
    skipped: Counter[str] = Counter()
    paths = sorted(
        f"{folder}/{name}" if folder else name
        for folder, names in walk_images(root, skipped)
        for name in names
    )
    say_skipped(root, skipped)
    if not paths:
        others = f", but files with {', '.join(sorted(skipped))}" if skipped else ""
        empty.append(
            f"{text}: no image below this folder{others}; tars and tables are named themselves"
        )
    for path in paths:
        yield _absolute(f"{text.rstrip('/')}/{path}", path, root)


def _of_tar(text: str, path: Path, empty: list[str]) -> Iterator[_Named]:
    if path.suffix.lower() != ".tar":
        raise ConfigError(f"{text}: a compressed tar has no offsets to read at; decompress it")
    if not path.is_file():
        raise ConfigError(f"{text}: no such tar")
    refuse_irregular(path)
    num_images = 0
    try:
        with tarfile.open(path, "r:", errors="surrogateescape") as tar:
            for member in tar:
                if member.isfile() and is_image(member.name.rpartition("/")[2]):
                    num_images += 1
                    place = f"tar://{member.offset_data}+{member.size}::{path.name}"
                    yield _absolute(f"{text}/{escape(member.name)}", place, path.parent)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ConfigError(f"{text}: not a tar, or a damaged one: {error}") from error
    if not num_images:
        empty.append(f"{text}: no image in this tar")


def _of_table(path: Path, image_column: str | None) -> Iterator[_Named]:
    if not path.is_file():
        raise ConfigError(f"{path}: no such table")
    spec = DatasetSpec(images=path, taxonomy=FOLDERS, layout="huggingface")
    source: HuggingFaceSource | TableSource = HuggingFaceSource()
    if not _holds_images(path):
        column = _column_of_images(path, image_column)
        # No label is looked at, so any column is as good as another one.
        spec = DatasetSpec(
            table=path, taxonomy=FOLDERS, image_column=column, leaf_column=column, layout="table"
        )
        source = TableSource()
    root = source.image_root(spec)
    for rows in source.read_rows(spec):
        yield from _of_rows(rows, root)


def _of_rows(rows: Rows, root: Path) -> Iterator[_Named]:
    for name, image in zip(rows.ids, rows.images or rows.ids, strict=True):
        yield _absolute(name, image, root)


def _holds_images(path: Path) -> bool:
    """Tell whether a table is Parquet with images in it, as ``datasets`` writes them."""
    if path.suffix.lower() != ".parquet":
        return False
    try:
        return any(pa.types.is_struct(kind) for kind in pq.read_schema(path).types)
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def _column_of_images(path: Path, wanted: str | None) -> str:
    columns = column_names(path)
    if wanted is not None and wanted not in columns:
        raise ConfigError(f"{path}: no column {wanted!r}{nearest(wanted, columns)}")
    column = wanted or next((name for name in _IMAGE_COLUMNS if name in columns), None)
    if column is None:
        raise ConfigError(
            f"{path}: no column {', '.join(_IMAGE_COLUMNS[:-1])} or {_IMAGE_COLUMNS[-1]}; name "
            f"the one of {', '.join(columns)} that holds the images (--image-column)"
        )
    if wanted is None and column != _IMAGE_COLUMNS[0]:
        logger.info("%s: images are read from the column %r", path, column)
    return column
