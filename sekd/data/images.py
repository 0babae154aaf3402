"""Read image files, and tell whether they changed since they were hashed."""

from __future__ import annotations

import hashlib
import io
import warnings

from PIL import Image, ImageOps, UnidentifiedImageError

from sekd.data.image_refs import ImageRef
from sekd.errors import SampleError


def read_image(ref: ImageRef) -> Image.Image:
    """Read a whole image as RGB, turned upright by its EXIF orientation.

    Raises:
        SampleError: if the file is missing, truncated, not an image, so large that it may be a
            decompression bomb, or has pixels without a known white (32-bit integers, floats).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(ref.read_bytes())) as image:
                return _to_rgb(ImageOps.exif_transpose(image))
    except SampleError:
        raise
    except UnidentifiedImageError as error:
        raise SampleError(f"{ref}: not an image") from error
    except Exception as error:  # on broken bytes PIL raises most kinds, struct.error included
        raise SampleError(f"{ref}: cannot be read: {error}") from error


def read_unchanged(ref: ImageRef, sha256: str) -> Image.Image:
    """Read an image with :func:`read_image` if its file still has this hash.

    Raises:
        SampleError: as :func:`read_image` does, and if the file was changed.
    """
    if image_sha256(ref) != sha256:
        raise SampleError(f"{ref}: not the image that the teacher saw; run sekd elicit again")
    return read_image(ref)


def image_sha256(ref: ImageRef) -> str | None:
    """Return the hex SHA-256 of the image's bytes, or ``None`` if it cannot be read."""
    try:
        return hashlib.sha256(ref.read_bytes()).hexdigest()
    except SampleError:
        return None


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert to 8-bit RGB. PIL cuts brighter values off at 255; 16-bit grey is scaled instead."""
    if image.mode == "I;16":
        image = image.point(lambda value: value * (1 / 256))
    elif image.mode.startswith(("I", "F")):
        raise ValueError(f"pixels of mode {image.mode} have no known white; save it in 8 bits")
    return image.convert("RGB")
