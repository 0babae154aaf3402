"""References to images: files, members of tars, cells of Parquet and Arrow files."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sekd.data.image_refs import ImageRef, cell_ref
from sekd.errors import SampleError


def test_a_plain_path_is_a_file_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "a::b.jpg").write_bytes(b"one")
    ref = ImageRef.parse("a::b.jpg", tmp_path)
    assert ref == ImageRef(tmp_path / "a::b.jpg")
    assert ref.read_bytes() == b"one"
    assert ImageRef.parse(str(tmp_path / "a::b.jpg"), Path("elsewhere")) == ref


def test_a_member_of_a_tar_is_read_where_it_lies(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name in ("a.jpg", "b.jpg"):
            info = tarfile.TarInfo(name)
            info.size = len(name)
            tar.addfile(info, io.BytesIO(name.encode()))
    with tarfile.open(tmp_path / "s.tar") as tar:
        member = tar.getmember("b.jpg")
    ref = ImageRef.parse(f"tar://{member.offset_data}+{member.size}::s.tar", tmp_path)
    assert ref.read_bytes() == b"b.jpg"
    too_long = ImageRef(ref.path, "tar", "0+99999999")
    with pytest.raises(SampleError, match="the file ends before the image does"):
        too_long.read_bytes()


@pytest.mark.parametrize("row", [0, 2, 3, 6])
def test_cells_of_parquet_are_read_from_their_row_group(tmp_path: Path, row: int) -> None:
    cells = [f"image {number}".encode() for number in range(7)]
    structs = [{"bytes": cell, "path": None} for cell in cells]
    pq.write_table(pa.table({"im/age": structs, "raw": cells}), tmp_path / "t", row_group_size=3)
    for column in ("im/age", "raw"):
        ref = ImageRef.parse(cell_ref("parquet", row, column, "t"), tmp_path)
        assert ref.read_bytes() == cells[row]
    with pytest.raises(SampleError, match="cannot be read"):
        ImageRef.parse(cell_ref("parquet", 7, "raw", "t"), tmp_path).read_bytes()


def test_a_changed_parquet_file_is_read_anew(tmp_path: Path) -> None:
    ref = ImageRef.parse(cell_ref("parquet", 0, "raw", "t"), tmp_path)
    for number, content in enumerate((b"old", b"new")):
        pq.write_table(pa.table({"raw": [content]}), tmp_path / "t")
        os.utime(tmp_path / "t", ns=(number, number))
        assert ref.read_bytes() == content


def test_cells_of_a_dataset_that_the_datasets_library_saved_are_read(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2), "red").save(buffer, "PNG")
    rows = {"image": [{"bytes": buffer.getvalue(), "path": None}]}
    features = datasets.Features({"image": datasets.Image()})
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path)
    (path,) = tmp_path.glob("*.arrow")
    assert ImageRef.parse(cell_ref("arrow", 0, "image", str(path))).read_bytes()[:4] == b"\x89PNG"


def test_a_record_of_cifar_becomes_an_image_of_its_pixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), np.uint8)
    records = [bytes([4, 9]) + image.tobytes() for image in pixels]
    (tmp_path / "train.bin").write_bytes(b"".join(records))
    content = ImageRef.parse("cifar://1::train.bin", tmp_path).read_bytes()
    image = np.asarray(Image.open(io.BytesIO(content)))
    assert np.array_equal(image, pixels[1].transpose(1, 2, 0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("missing.jpg", "missing.jpg: no such image"),
        ("a\0b.jpg", "cannot be read: embedded null byte"),
        ("folder", "cannot be read"),
        ("pipe", "not a regular file"),
        ("/dev/zero", "not a regular file"),
        ("../secret.jpg", "its path leaves .*, where image paths start"),
        ("folder/../../secret.jpg", "its path leaves"),
        ("tar://0+4::../secret.jpg", "its path leaves"),
        ("https://example.org/a.jpg", "it is an address, not a path"),
        ("nope://1::a.jpg", "no image is named by nope://"),
        ("tar://x::pipe", "cannot be read"),
        ("parquet://0/image::pipe", "cannot be read"),
    ],
)
def test_what_cannot_be_read_sets_its_sample_aside(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SampleError, match=message):
        ImageRef.parse(text, tmp_path).read_bytes()


def test_dots_that_stay_below_the_root_are_no_way_out(tmp_path: Path) -> None:
    (tmp_path / "a..b.jpg").write_bytes(b"one")
    assert ImageRef.parse("x/../a..b.jpg", tmp_path).path == tmp_path / "x/../a..b.jpg"
    assert ImageRef.parse("a..b.jpg", tmp_path).read_bytes() == b"one"


@given(st.text(), st.sampled_from(["t.jpg", "/a/b.tar"]))
def test_an_unusable_reference_keeps_its_reason_as_a_text(reason: str, path: str) -> None:
    reason = reason.encode("utf-8", "replace").decode()
    ref = ImageRef.parse(str(ImageRef.unusable(reason, path)), Path("root"))
    with pytest.raises(SampleError) as error:
        ref.read_bytes()
    assert str(error.value) == f"{path}: {reason}"
