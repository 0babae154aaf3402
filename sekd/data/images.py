"""Read image files, and tell whether they changed since they were hashed."""

from __future__ import annotations

import warnings
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from sekd.errors import SampleError
from sekd.io.hashing import hash_file


def read_image(path: Path) -> Image.Image:
    """Read a whole image as RGB, turned upright by its EXIF orientation.

    Raises:
        SampleError: if the file is missing, truncated, not an image, so large that it may be a
            decompression bomb, or has pixels without a known white (32-bit integers, floats).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return _to_rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError as error:
        raise SampleError(f"{path}: no such image") from error
    except UnidentifiedImageError as error:
        raise SampleError(f"{path}: not an image") from error
    except Exception as error:  # on broken bytes PIL raises most kinds, struct.error included
        raise SampleError(f"{path}: cannot be read: {error}") from error


def read_unchanged(path: Path, sha256: str) -> Image.Image:
    """Read an image with :func:`read_image` if its file still has this hash.

    Raises:
        SampleError: as :func:`read_image` does, and if the file was changed.
    """
    if image_sha256(path) != sha256:
        raise SampleError(f"{path}: not the image that the teacher saw; run sekd elicit again")
    return read_image(path)


def image_sha256(path: Path) -> str | None:
    """Return the hex SHA-256 of the file, or ``None`` if it cannot be read."""
    try:
        return hash_file(path)
    except OSError:
        return None


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert to 8-bit RGB. PIL cuts brighter values off at 255; 16-bit grey is scaled instead."""
    if image.mode == "I;16":
        image = image.point(lambda value: value * (1 / 256))
    elif image.mode.startswith(("I", "F")):
        raise ValueError(f"pixels of mode {image.mode} have no known white; save it in 8 bits")
    return image.convert("RGB")
