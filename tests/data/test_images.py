"""Images of every kind are read as a viewer shows them; broken and changed ones are found."""

from __future__ import annotations

import errno
import hashlib
import io
import logging
import os
import struct
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from sekd.config import PIXEL_LIMIT
from sekd.data import images
from sekd.data.image_refs import ImageRef
from sekd.data.images import Reading, image_sha256, read_and_hash, read_image, read_unchanged
from sekd.errors import SampleError
from sekd.io import faults
from sekd.io.faults import StorageError


def at(path: Path) -> ImageRef:
    return ImageRef(path)


def gradient(mode: str) -> Image.Image:
    """3 high and 2 wide, dark at the top left."""
    values = np.arange(6).reshape(3, 2)
    kinds = {
        "I;16": (np.uint16, 13107),
        "I;16B": (np.dtype(">u2"), 13107),
        "I": (np.int32, 13107),
        "F": (np.float32, 0.2),
    }
    if mode in kinds:
        kind, scale = kinds[mode]
        return Image.fromarray((values * scale).astype(kind))
    return Image.fromarray((values * 51).astype(np.uint8)).convert(mode)


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def smooth(width: int, height: int) -> Image.Image:
    """Red grows to the right and green downwards."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    return Image.fromarray(pixels)


def pixels_of(image: Image.Image) -> NDArray[np.int64]:
    assert image.mode == "RGB"
    return np.asarray(image, dtype=int)


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        *((mode, "a.png") for mode in ("1", "L", "RGB", "RGBA", "P", "LA", "I;16")),
        *((mode, "a.tif") for mode in ("CMYK", "I;16", "I;16B")),
        ("I;16", "a.pgm"),
        ("L", "a.jp2"),
        ("RGB", "a.qoi"),
        ("RGB", "a.tga"),
    ],
)
def test_images_of_any_mode_become_rgb(tmp_path: Path, mode: str, name: str) -> None:
    gradient(mode).save(tmp_path / name)
    expected = np.repeat(np.arange(6).reshape(3, 2, 1) * 51, 3, axis=2)
    if mode == "1":
        expected = pixels_of(gradient("1").convert("RGB"))
    np.testing.assert_allclose(pixels_of(read_image(at(tmp_path / name))), expected, atol=1)


def test_transparent_pixels_are_white_whatever_colour_they_hide(tmp_path: Path) -> None:
    red = np.array([[[255, 0, 0, alpha] for alpha in (0, 128, 255)]], np.uint8)
    expected = [[[255, 255, 255], [255, 127, 127], [255, 0, 0]]]
    for name in ("a.png", "a.webp", "a.tif"):
        Image.fromarray(red).save(tmp_path / name, lossless=True)
        np.testing.assert_allclose(pixels_of(read_image(at(tmp_path / name))), expected, atol=1)
    grey = np.array([[[0, 0], [0, 255]]], np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert pixels_of(read_image(at(tmp_path / "grey.png")))[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize("name", ["a.png", "a.gif"])
def test_a_transparent_colour_of_a_palette_is_white(tmp_path: Path, name: str) -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putdata([0, 1])
    palette.save(tmp_path / name, transparency=0)
    assert pixels_of(read_image(at(tmp_path / name))).tolist() == [[[255, 255, 255], [0, 0, 255]]]


@pytest.mark.parametrize(
    ("mode", "transparent"), [("RGB", (255, 0, 0)), ("L", 255), ("I;16", 65535)]
)
def test_one_colour_can_be_the_transparent_one(
    tmp_path: Path, mode: str, transparent: int | tuple[int, ...]
) -> None:
    image = Image.new(mode, (2, 1))
    image.putpixel((0, 0), transparent)
    image.save(tmp_path / "a.png", transparency=transparent)
    assert pixels_of(read_image(at(tmp_path / "a.png"))).tolist() == [[[255] * 3, [0] * 3]]


@pytest.mark.vllm
def test_vllm_shows_the_same_pixels(tmp_path: Path) -> None:
    image_io = pytest.importorskip("vllm.multimodal.media").ImageMediaIO()
    rgba = np.random.default_rng(0).integers(0, 255, (8, 8, 4), dtype=np.uint8)
    for name in ("a.png", "a.webp", "a.tif"):
        Image.fromarray(rgba).save(tmp_path / name)
        shown = image_io.load_file(tmp_path / name)
        shown = getattr(shown, "media", shown)
        assert pixels_of(read_image(at(tmp_path / name))).tolist() == np.asarray(shown).tolist()


def test_only_the_hash_of_an_image_with_transparent_pixels_is_not_that_of_its_bytes(
    tmp_path: Path,
) -> None:
    rgba = np.full((2, 2, 4), 255, np.uint8)
    for alpha, is_same in ((255, True), (254, False)):
        rgba[0, 0, 3] = alpha
        Image.fromarray(rgba).save(tmp_path / "a.png")
        sha256 = hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest()
        assert (image_sha256(at(tmp_path / "a.png")) == sha256) == is_same
    for name, content in {"b.jpg": b"broken", "c.png": b"\x89PNG\r\n\x1a\n"}.items():
        (tmp_path / name).write_bytes(content)
        assert image_sha256(at(tmp_path / name)) == hashlib.sha256(content).hexdigest()


def test_images_are_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera's top is at the right
    for name in ("a.png", "a.tif", "a.webp"):
        gradient("RGB").save(tmp_path / name, exif=exif, lossless=True)
        image = read_image(at(tmp_path / name))
        assert image.size == (3, 2)
        assert pixels_of(image)[0, :, 0].tolist() == [204, 102, 0]
        assert ImageOps.exif_transpose(image).tobytes() == image.tobytes()  # as vLLM does, too


def test_of_several_frames_the_first_is_shown_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "_formats_with_frames", set())
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for name in ("a.gif", "b.gif", "a.tif", "a.webp", "a.png", "a.avif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
        assert pixels_of(read_image(at(tmp_path / name)))[0, 0, 2] < 10
    messages = [record.getMessage() for record in caplog.records]
    assert [message.split(":")[0].rsplit("/")[-1] for message in messages] == [
        *("a.gif", "a.tif", "a.webp", "a.png", "a.avif")
    ]
    assert caplog.records[0].levelno == logging.WARNING
    assert messages[0].endswith(
        "a GIF of several frames or pages; of such images the first one is shown"
    )


@pytest.mark.parametrize("suffix", [".heic", ".jxl", ".avif"])
def test_newer_formats_are_read(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    pytest.importorskip("pillow_jxl")
    original = smooth(64, 48)
    original.save(tmp_path / f"a{suffix}", quality=95)
    shown = pixels_of(read_image(at(tmp_path / f"a{suffix}")))
    assert np.abs(shown - pixels_of(original)).mean() < 3


@pytest.mark.parametrize(
    ("start", "module", "message"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "pillow_heif", r"HEIF image: .*'sekd\[heif\]'"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "pillow_jxl", r"JXL image: pip install 'sekd\[jxl\]'"),
        (b"\xff\x0a", "pillow_jxl", r"JXL image: pip install 'sekd\[jxl\]'"),
    ],
)
def test_a_missing_package_for_a_format_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: bytes, module: str, message: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    for plugin in ("HEIF", "JXL"):
        monkeypatch.delitem(Image.OPEN, plugin, raising=False)
    (tmp_path / "a.jpg").write_bytes(start + bytes(100))
    with pytest.raises(SampleError, match=rf"a\.jpg: a {message}"):
        read_image(at(tmp_path / "a.jpg"))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".gif", ".webp", ".bmp", ".tif"])
def test_truncated_images_are_sample_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    noise(40, 40).save(path)
    assert read_image(at(path)).size == (40, 40)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    for is_allowed in (False, True):  # other libraries set it for the whole process
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", is_allowed)
        with pytest.raises(SampleError, match=rf"a\{suffix}: "):
            read_image(at(path))
        assert is_allowed == ImageFile.LOAD_TRUNCATED_IMAGES


def test_unreadable_images_are_sample_errors(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("<html>404</html>")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    gradient("F").save(tmp_path / "float.tif")
    gradient("I").save(tmp_path / "integer.tif")
    for name, message in {
        "missing.jpg": "no such image$",
        "text.jpg": "not an image",
        "empty.jpg": "not an image",
        "folder.jpg": "cannot be read: a directory, not a regular file",
        "float.tif": "cannot be read: pixels of mode F have no known white",
        "integer.tif": "cannot be read: pixels of mode I have no known white",
        "nul\0.jpg": "cannot be read: embedded null byte",
        "\ud800.jpg": "cannot be read: .*surrogates",
    }.items():
        with pytest.raises(SampleError, match=f"{name}: {message}"):
            read_image(at(tmp_path / name))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs on this system")
def test_reading_never_waits_for_a_fifo_or_a_device(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    for path, kind in {tmp_path / "a.jpg": "a FIFO", Path("/dev/zero"): "a device"}.items():
        with pytest.raises(SampleError, match=f"cannot be read: {kind}, not a regular file"):
            read_image(at(path))
        assert image_sha256(at(path)) is None


def test_postscript_starts_no_program_under_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encapsulated = io.BytesIO()
    noise(4, 4).save(encapsulated, "EPS")
    (tmp_path / "a.png").write_bytes(encapsulated.getvalue())
    monkeypatch.setattr("subprocess.Popen", None)
    with pytest.raises(SampleError, match=r"a\.png: not an image"):
        read_image(at(tmp_path / "a.png"))


def test_the_limit_of_pixels_can_be_lowered_and_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise(40, 30).save(tmp_path / "a.png")
    with pytest.raises(SampleError, match=r"40 x 30 are 1200 pixels, more than the limit of 1199"):
        read_image(at(tmp_path / "a.png"), Reading(pixel_limit=1199))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # pillow refuses twice this number
    assert read_image(at(tmp_path / "a.png"), Reading(pixel_limit=1200)).size == (40, 30)
    assert Image.MAX_IMAGE_PIXELS == 500
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 89_478_485)
    Image.new("1", (20_000, 10_000)).save(tmp_path / "bomb.png")
    assert (tmp_path / "bomb.png").stat().st_size < 100_000
    with pytest.raises(SampleError, match=r"bomb\.png: .*200000000 pixels.* Raise pixel_limit"):
        read_image(at(tmp_path / "bomb.png"))
    assert Image.MAX_IMAGE_PIXELS == PIXEL_LIMIT


@pytest.mark.parametrize("size", [(1, 1), (30_000, 1), (1, 30_000), (60_000, 100)])
def test_extreme_shapes_are_read_whole(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size).save(tmp_path / "a.png")
    assert read_image(at(tmp_path / "a.png"), Reading(used_pixels=lambda: 1)).size == size


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_large_photograph_is_decoded_near_the_size_that_is_used(
    tmp_path: Path, suffix: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    original = smooth(2800, 2001)
    path = tmp_path / f"a{suffix}"
    original.save(path, exif=exif)
    upright = original.transpose(Image.Transpose.ROTATE_270)
    for used_pixels, size in {
        2_000_000: (2001, 2800),
        330_000: (1001, 1400),
        50_000: (501, 700),
        100: (251, 350),
    }.items():
        num_bytes: list[int] = []
        reading = Reading(PIXEL_LIMIT, lambda used=used_pixels: used, num_bytes.append)
        image = read_image(at(path), reading)
        assert abs(image.width - size[0]) <= 1
        assert image.height == size[1]
        assert image.width * image.height >= min(4 * used_pixels, 2800 * 2001)
        assert np.abs(pixels_of(image) - pixels_of(upright.resize(image.size))).mean() < 2
        decoded = image.width * image.height if suffix == ".jpg" else 2800 * 2001
        assert num_bytes == [4 * decoded]
    small = smooth(1000, 800)
    small.save(path)
    assert read_image(at(path), Reading(used_pixels=lambda: 1)).size == (1000, 800)


def test_a_name_is_found_in_the_other_unicode_form(tmp_path: Path) -> None:
    for form, other in (("NFC", "NFD"), ("NFD", "NFC")):
        path = tmp_path / unicodedata.normalize(form, f"épervier {form}.png")
        gradient("RGB").save(path)
        named = tmp_path / unicodedata.normalize(other, f"épervier {form}.png")
        assert str(named) != str(path)
        assert read_image(at(named)).size == (2, 3)
        assert image_sha256(at(named)) == image_sha256(at(path))


def test_links_are_followed(tmp_path: Path) -> None:
    gradient("RGB").save(tmp_path / "a.png")
    (tmp_path / "link.png").symlink_to("a.png")
    (tmp_path / "broken.png").symlink_to("nowhere.png")
    assert read_image(at(tmp_path / "link.png")).size == (2, 3)
    with pytest.raises(SampleError, match=r"broken\.png: no such image"):
        read_image(at(tmp_path / "broken.png"))


def test_a_photograph_with_a_broken_exif_entry_is_shown_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    # Now the compression, a number, is text: PIL cannot write this EXIF again.
    broken = exif.tobytes().replace(b"\x01\x0e\x00\x02", b"\x01\x03\x00\x02")
    for name, payload in {"a.jpg": broken, "b.jpg": b"Exif\0\0II*\0nonsense"}.items():
        gradient("RGB").save(tmp_path / name, exif=payload)
    assert read_image(at(tmp_path / "a.jpg")).size == (3, 2)
    assert read_image(at(tmp_path / "b.jpg")).size == (2, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_are_those_of_pil(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    smooth(6, 4).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        expected = ImageOps.exif_transpose(image)
    assert read_image(at(tmp_path / "a.png")).tobytes() == expected.tobytes()


def test_any_exception_of_pil_is_a_sample_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(image: Image.Image) -> Image.Image:
        raise struct.error("required argument is not an integer")

    gradient("RGB").save(tmp_path / "a.jpg")
    monkeypatch.setattr(images, "to_rgb", fail)
    with pytest.raises(SampleError, match=r"a\.jpg: cannot be read: required argument"):
        read_image(at(tmp_path / "a.jpg"))


def test_a_changed_image_is_found_by_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    assert image_sha256(at(path)) is None
    gradient("RGB").save(path)
    sha256 = image_sha256(at(path))
    assert sha256 is not None
    image, same_sha256 = read_and_hash(at(path))
    assert (image.size, same_sha256) == ((2, 3), sha256)
    assert read_unchanged(at(path), sha256).size == (2, 3)
    gradient("RGB").rotate(180).save(path)
    assert image_sha256(at(path)) != sha256
    with pytest.raises(SampleError, match=r"a\.png: not the image that the teacher saw"):
        read_unchanged(at(path), sha256)


@pytest.mark.parametrize("name", ["ESTALE", "EMFILE", "EACCES", "EIO"])
def test_an_image_that_storage_does_not_give_is_not_a_bad_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(path)

    def fail(*_: object) -> int:
        raise OSError(getattr(errno, name), "not now")

    monkeypatch.setattr(faults, "DELAYS", (0.0,))
    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(StorageError, match="not now"):
        read_image(ImageRef(path))
