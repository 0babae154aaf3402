"""Reading images of every mode and suffix, and finding the broken and the changed ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sekd.data.image_refs import ImageRef
from sekd.data.images import image_sha256, read_image, read_unchanged
from sekd.errors import SampleError


def gradient(mode: str) -> Image.Image:
    """3 high and 2 wide, dark at the top left."""
    values = np.arange(6).reshape(3, 2)
    kinds = {"I;16": (np.uint16, 13107), "I": (np.int32, 13107), "F": (np.float32, 0.2)}
    if mode in kinds:
        kind, scale = kinds[mode]
        return Image.fromarray((values * scale).astype(kind))
    return Image.fromarray((values * 51).astype(np.uint8)).convert(mode)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK", "P", "LA", "I;16"])
def test_images_of_any_mode_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    gradient(mode).save(path)
    image = read_image(ImageRef(path))
    assert image.mode == "RGB"
    expected = np.repeat(np.arange(6).reshape(3, 2, 1) * 51, 3, axis=2)
    np.testing.assert_allclose(np.asarray(image, dtype=int), expected, atol=1)


def test_images_are_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera's top is at the right
    gradient("RGB").save(tmp_path / "a.png", exif=exif)
    image = read_image(ImageRef(tmp_path / "a.png"))
    assert image.size == (3, 2)
    assert np.asarray(image)[0, :, 0].tolist() == [204, 102, 0]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".gif", ".webp", ".bmp", ".tif"])
def test_truncated_images_are_sample_errors(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    assert read_image(ImageRef(path)).size == (40, 40)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(SampleError, match=rf"a\{suffix}: "):
        read_image(ImageRef(path))


def test_unreadable_images_are_sample_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.jpg").write_text("<html>404</html>")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    gradient("F").save(tmp_path / "float.tif")
    gradient("I").save(tmp_path / "integer.tif")
    for name, message in {
        "missing.jpg": "no such image",
        "text.jpg": "not an image",
        "empty.jpg": "not an image",
        "folder.jpg": "cannot be read: .*directory",
        "float.tif": "cannot be read: pixels of mode F have no known white",
        "integer.tif": "cannot be read: pixels of mode I have no known white",
    }.items():
        with pytest.raises(SampleError, match=f"{name}: {message}"):
            read_image(ImageRef(tmp_path / name))
    gradient("RGB").save(tmp_path / "a.png")
    for limit in (1, 4):  # an error and a warning to PIL
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(SampleError, match=r"a\.png: cannot be read: .*bomb"):
            read_image(ImageRef(tmp_path / "a.png"))


def test_any_exception_of_pil_is_a_sample_error(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    content = exif.tobytes()
    # Now the compression, a number, is text: PIL ends in a struct.error.
    broken = content.replace(b"\x01\x0e\x00\x02", b"\x01\x03\x00\x02")
    for name, payload in {"good.jpg": content, "broken.jpg": broken}.items():
        gradient("RGB").save(tmp_path / name, exif=payload)
    assert read_image(ImageRef(tmp_path / "good.jpg")).size == (3, 2)
    with pytest.raises(SampleError, match=r"broken\.jpg: cannot be read: required argument"):
        read_image(ImageRef(tmp_path / "broken.jpg"))


def test_a_changed_image_is_found_by_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    assert image_sha256(ImageRef(path)) is None
    gradient("RGB").save(path)
    sha256 = image_sha256(ImageRef(path))
    assert sha256 is not None
    assert read_unchanged(ImageRef(path), sha256).size == (2, 3)
    gradient("RGB").rotate(180).save(path)
    assert image_sha256(ImageRef(path)) != sha256
    with pytest.raises(SampleError, match=r"a\.png: not the image that the teacher saw"):
        read_unchanged(ImageRef(path), sha256)
