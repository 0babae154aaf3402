"""The layout ``webdataset``: tar files whose members are grouped by their names.

``000017.jpg``, ``000017.cls`` and ``000017.json`` of a tar are one sample. Its label is what
``.cls`` says, or the entry ``leaf_column`` of ``.json``; a number is looked up in
``classnames.txt`` or ``classes.txt`` beside the tars, line by line, where there is one. The tars
are read where they are, by the offsets of their members.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sekd.config import DatasetSpec
from sekd.data.image_folders import is_image
from sekd.data.sources.base import Rows, Source, escape, is_clean, set_aside
from sekd.errors import ConfigError
from sekd.io.directories import entries_below
from sekd.io.text import PARSE_ERRORS, read_lines, refuse_irregular

_CLASS_FILES = ("classnames.txt", "classes.txt")
_LABEL_SUFFIXES = ("cls", "cls.txt", "label")
_MAX_LABEL_BYTES = 1 << 24


@dataclass
class _Group:
    """The members of one sample."""

    number: int
    key: str
    image: str | None = None
    label: str | None = None
    fault: str = ""
    suffixes: list[str] = field(default_factory=list)


class WebDatasetSource(Source):
    """Reads all samples of all tars, in the order of the tars' names and of their members."""

    def read_rows(self, spec: DatasetSpec) -> Iterator[Rows]:
        """Read the index of each tar, and the labels in it. Images are not read.

        Raises:
            ConfigError: if there is no tar, one is compressed or damaged, or no member is an image.
        """
        root = self.image_root(spec)
        first = 1
        for path in _tars(spec):
            name = path.relative_to(root).as_posix()
            groups = [group for group in _read_groups(path, name, spec, first) if group.image]
            first += len(groups)
            yield Rows(
                ids=[escape(f"{name}/{group.key}") for group in groups],
                images=[
                    set_aside(f"{name}/{group.key}", group.fault)
                    if group.fault
                    else group.image or ""
                    for group in groups
                ],
                labels=[None if group.fault else group.label for group in groups],
                numbers=range(first - len(groups), first),
            )

    def image_root(self, spec: DatasetSpec) -> Path:
        """Return the folder of the tars."""
        assert spec.images is not None
        return spec.images if spec.images.is_dir() else spec.images.parent

    def class_names(self, spec: DatasetSpec) -> Mapping[str, Sequence[str]]:
        """Return the number of a class -> its line in ``classnames.txt`` or ``classes.txt``."""
        for name in _CLASS_FILES:
            path = self.image_root(spec) / name
            if path.is_file():
                return {str(i): [line.strip()] for i, (_, line) in enumerate(read_lines(path))}
        return {}


def _tars(spec: DatasetSpec) -> list[Path]:
    """List the tars; with a split, those whose name begins with it or that lie in its folder."""
    assert spec.images is not None
    root = spec.images
    files = [root] if root.is_file() else sorted(entries_below(root))
    paths = [path for path in files if path == root or path.name.endswith(".tar")]
    compressed = [path for path in files if ".tar." in path.name]
    if compressed or root.name.endswith((".gz", ".tgz", ".zst", ".bz2", ".xz")):
        path = compressed[0] if compressed else root
        raise ConfigError(f"{path}: a compressed tar has no offsets to read at; decompress it")
    if spec.split is not None:
        paths = [
            path
            for path in paths
            if path.name.startswith(spec.split) or spec.split in path.relative_to(root).parts[:-1]
        ]
    if not paths:
        of_split = f" of the split {spec.split!r}" if spec.split else ""
        raise ConfigError(f"{root}: no .tar file{of_split} in it")
    return paths


def _read_groups(path: Path, name: str, spec: DatasetSpec, first: int) -> list[_Group]:
    refuse_irregular(path)
    groups: dict[str, _Group] = {}
    try:
        with tarfile.open(path, "r:", errors="surrogateescape") as tar:
            for member in tar:
                folder, _, base = member.name.rpartition("/")
                if not member.isfile() or base.startswith("."):
                    continue
                stem, _, suffix = base.partition(".")
                key = f"{folder}/{stem}" if folder else stem
                group = groups.setdefault(key, _Group(first + len(groups), key))
                _add_member(group, tar, member, suffix.lower(), name, spec)
            _refuse_damaged_end(path, tar.offset)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ConfigError(f"{path}: not a tar, or a damaged one: {error}") from error
    if not any(group.image for group in groups.values()):
        raise ConfigError(f"{path}: no image among its {len(groups)} samples")
    return list(groups.values())


def _refuse_damaged_end(path: Path, offset: int) -> None:
    """Refuse a tar whose next header is neither the end nor zeros: tarfile takes it for the end."""
    with path.open("rb") as file:
        file.seek(offset)
        block = file.read(tarfile.BLOCKSIZE)
    if block.strip(b"\0") or 0 < len(block) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError(f"no header of a member at byte {offset}")


def _add_member(
    group: _Group,
    tar: tarfile.TarFile,
    member: tarfile.TarInfo,
    suffix: str,
    name: str,
    spec: DatasetSpec,
) -> None:
    if not is_clean(member.name):
        group.fault = "the name of a member is not in UTF-8"
    if is_image(f"x.{suffix}") and group.image is None:
        group.image = f"tar://{member.offset_data}+{member.size}::{name}"
    elif suffix in _LABEL_SUFFIXES or suffix == "json":
        file = tar.extractfile(member)
        content = file.read(_MAX_LABEL_BYTES) if file else b""
        try:
            text = content.decode("utf-8-sig").strip()
            label = _label_in_json(text, spec.leaf_column) if suffix == "json" else text
        except PARSE_ERRORS as error:
            group.fault = f"{member.name!r} cannot be parsed: {type(error).__name__}"
            return
        if label and (group.label is None or suffix == "cls"):
            group.label = label


def _label_in_json(text: str, key: str) -> str | None:
    content = json.loads(text)
    value = content.get(key) if isinstance(content, dict) else None
    return str(value).strip() if isinstance(value, str | int) else None
