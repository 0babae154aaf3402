"""Read images that a program holds: paths, bytes of files, Pillow images and arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sekd.data.image_refs import ImageRef
from sekd.data.images import (
    Reading,
    decode_image,
    hash_image,
    hash_pixels,
    read_and_hash,
    to_rgb,
    turn_of,
    turn_upright,
)
from sekd.errors import SampleError

ImageLike: TypeAlias = str | Path | bytes | Image.Image | NDArray[Any]
"""A path, the bytes of an image file, a Pillow image, or an array of uint8: [height, width] grey,
or [height, width, 3 or 4] RGB or RGBA."""


class ReadImage(NamedTuple):
    """An image as RGB, and a hash of its content."""

    image: Image.Image
    key: str


def is_image_like(image: object) -> bool:
    """Tell whether this is a single image, not a number of them."""
    return isinstance(image, (str, Path, bytes, Image.Image, np.ndarray))


def read_image_like(image: ImageLike, name: str, reading: Reading) -> ReadImage:
    """Read an image as :func:`sekd.data.images.read_image` does.

    Args:
        name: of the image, for messages.

    Raises:
        SampleError: as ``read_image``, and if an array is no image.
    """
    ref = ImageRef(Path(name))
    if isinstance(image, (str, Path)):
        return ReadImage(*read_and_hash(ImageRef.parse(str(image)), reading))
    if isinstance(image, bytes):
        return ReadImage(decode_image(image, ref, reading), hash_image(image))
    if isinstance(image, np.ndarray):
        image = _of_array(image, name)
    if not isinstance(image, Image.Image):
        raise SampleError(
            f"{name}: expected a path, bytes, a Pillow image or an array, got "
            f"{type(image).__name__}"
        )
    try:
        turn, rgb = turn_of(image), to_rgb(image)
    except (OSError, ValueError, SyntaxError) as error:  # the file behind it may be truncated
        raise SampleError(f"{name}: cannot be read: {error}") from error
    upright = turn_upright(rgb.copy(), turn)  # the image of the program stays as it is
    return ReadImage(upright, hash_pixels(upright))


def _of_array(array: NDArray[Any], name: str) -> Image.Image:
    is_image = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if array.dtype != np.uint8 or not is_image or 0 in array.shape:
        raise SampleError(
            f"{name}: expected an array of uint8, [height, width] or [height, width, 3 or 4], got "
            f"{array.dtype} {list(array.shape)}"
        )
    return Image.fromarray(np.ascontiguousarray(array))
