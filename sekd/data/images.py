"""Read images as a viewer shows them, in every place that shows one to a model or a person.

Every format becomes 8-bit RGB: upright by its EXIF orientation, transparent pixels over white (as
vLLM's own loader has them), 16-bit grey scaled, and the first frame of several. A photograph far
larger than what a model's processor makes of it is decoded at a half, a quarter or an eighth.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from sekd.config import PIXEL_LIMIT
from sekd.data.image_refs import ImageRef
from sekd.errors import SampleError
from sekd.io.faults import fault_kind

logger = logging.getLogger(__name__)

FORMATS = (
    *("JPEG", "MPO", "PNG", "GIF", "WEBP", "TIFF", "BMP", "DIB", "AVIF", "JPEG2000", "PPM", "QOI"),
    *("ICO", "ICNS", "CUR", "PCX", "DCX", "PSD", "SGI", "SUN", "DDS", "BLP", "FTEX", "XBM", "XPM"),
    *("FLI", "GBR", "IM", "IMT", "IPTC", "MSP", "PIXAR", "FITS", "MCIDAS", "XVTHUMB", "PCD"),
    *("SPIDER", "TGA"),  # they have no signature
)
"""Formats of pillow that are opened, whatever the suffix says. The others are no images, or run
programs: EPS starts Ghostscript."""

IMAGE_SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib"),
        *(".gif", ".tif", ".tiff", ".avif", ".heic", ".heif", ".hif", ".jxl", ".jp2", ".j2k"),
        *(".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".qoi"),
    }
)
"""Suffixes, in lower case, of the files in a folder that are images."""

_SMALL = 4_000_000
"""Number of pixels up to which an image is always decoded whole."""
_OVERSAMPLING = 4
"""A reduced image keeps this many times the pixels that the processor uses, twice for each side."""
_LONGEST = 4
"""Images whose sides differ by more than this factor are decoded whole: a processor may use one
side in full."""
_BYTES_PER_PIXEL = 4
"""Pillow stores a pixel of RGB in four bytes."""
_JPEG = b"\xff\xd8"
_OPAQUE = 255

# The limit of each read is checked below. Changing filters for each read is not safe in threads.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclass(frozen=True)
class Reading:
    """How images are read for one purpose.

    Attributes:
        pixel_limit: an image with more pixels is refused.
        used_pixels: returns the largest number of pixels that is made of an image afterwards.
            Larger images may be decoded at reduced size. Without it, all are decoded whole.
        before_decoding: called with the number of bytes that the image takes when it is decoded.
    """

    pixel_limit: int = PIXEL_LIMIT
    used_pixels: Callable[[], int | None] | None = None
    before_decoding: Callable[[int], None] | None = None


_WHOLE = Reading()


def read_image(ref: ImageRef, reading: Reading = _WHOLE) -> Image.Image:
    """Read an image as RGB; see the module for what becomes of each kind of image.

    Raises:
        SampleError: if its bytes cannot be read, are truncated or no image, has more
            pixels than the limit, or pixels without a known white (32-bit integers, floats).
    """
    return decode_image(ref.read_bytes(), ref, reading)


def read_and_hash(ref: ImageRef, reading: Reading = _WHOLE) -> tuple[Image.Image, str]:
    """Read an image as :func:`read_image` does, and hash the same bytes as :func:`image_sha256`."""
    content = ref.read_bytes()
    return decode_image(content, ref, reading), hash_image(content)


def read_unchanged(ref: ImageRef, sha256: str, reading: Reading = _WHOLE) -> Image.Image:
    """Read an image with :func:`read_image` if it still has this hash.

    Raises:
        SampleError: as :func:`read_image` does, and if the file was changed.
    """
    content = ref.read_bytes()
    if hash_image(content) != sha256:
        raise SampleError(f"{ref}: not the image that the teacher saw; run sekd elicit again")
    return decode_image(content, ref, reading)


def image_sha256(ref: ImageRef) -> str | None:
    """Return the hex SHA-256 of the file, or ``None`` if it is missing or no regular file.

    For an image with transparent pixels the words "over white" are hashed behind the bytes: earlier
    versions showed these pixels in the colour below them, and what was stored then is not found.

    Raises:
        StorageError: if storage does not let it be read.
    """
    try:
        return hash_image(ref.read_bytes())
    except SampleError:
        return None


def hash_image(content: bytes) -> str:
    """Hash the bytes of an image file as :func:`image_sha256` does."""
    sha256 = hashlib.sha256(content)
    if not content.startswith(_JPEG) and _has_transparent_pixels(content):
        sha256.update(b"over white")
    return sha256.hexdigest()


def _has_transparent_pixels(content: bytes) -> bool:
    """Tell whether an image has a pixel that is not opaque."""
    ref = ImageRef(Path())
    try:
        with _open_image(io.BytesIO(content), ref, PIXEL_LIMIT) as image, _whole_files_only():
            _refuse_size(image, ref, PIXEL_LIMIT)
            if not image.has_transparency_data or image.mode.startswith("I"):
                return image.has_transparency_data
            return bool(np.asarray(image.convert("RGBA").getchannel("A")).min() < _OPAQUE)
    except Exception as error:
        if fault_kind(error) is not None:  # a decoder that could not be loaded
            raise
        return False  # a broken image is set aside when it is read


def decode_image(content: bytes, ref: ImageRef, reading: Reading = _WHOLE) -> Image.Image:
    """Decode the bytes of an image file as RGB.

    Args:
        ref: names the image in messages.

    Raises:
        SampleError: as :func:`read_image`.
    """
    try:
        with (
            _open_image(io.BytesIO(content), ref, reading.pixel_limit) as image,
            _whole_files_only(),
        ):
            _refuse_size(image, ref, reading.pixel_limit)
            factor = _reduction(image, reading)
            width = image.width
            if factor > 1:  # only the decoder of JPEG can do it
                image.draft(None, (image.width // factor, image.height // factor))
            if reading.before_decoding is not None:
                reading.before_decoding(image.width * image.height * _BYTES_PER_PIXEL)
            rest = max(1, factor * image.width // width)
            image.load()
            turn = turn_of(image)
            _say_first_frame(image, ref)
            rgb = to_rgb(image)
            rgb = rgb.reduce(rest) if rest > 1 else rgb
            return turn_upright(rgb, turn)
    except SampleError:
        raise
    except Exception as error:  # on broken bytes PIL raises most kinds, struct.error included
        if fault_kind(error) is not None:  # a decoder that could not be loaded
            raise
        raise SampleError(f"{ref}: cannot be read: {error}") from error


def _open_image(file: BinaryIO, ref: ImageRef, pixel_limit: int) -> Image.Image:
    """Open an image of one of :data:`FORMATS`; its pixels are not decoded yet."""
    try:
        return Image.open(file, formats=_native_formats())
    except Image.DecompressionBombError as error:
        with _limit_lock:
            limit = Image.MAX_IMAGE_PIXELS  # pillow's own, one for the process
            if limit is None or pixel_limit <= limit:
                raise SampleError(f"{ref}: {error} {_RAISE_LIMIT}") from error
            Image.MAX_IMAGE_PIXELS = pixel_limit
            try:
                return Image.open(file, formats=_native_formats())
            finally:
                Image.MAX_IMAGE_PIXELS = limit
    except UnidentifiedImageError as error:
        file.seek(0)
        start = file.read(32)
        for optional in _OPTIONAL_FORMATS:
            if optional.matches(start):
                optional.register(ref)
                file.seek(0)
                return Image.open(file, formats=[optional.format])
        raise SampleError(f"{ref}: not an image") from error


@cache
def _native_formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@dataclass(frozen=True)
class _OptionalFormat:
    """A format that pillow reads with another package.

    Attributes:
        starts: beginnings of its files, or of what is behind their first four bytes.
        extra: the extra of sekd that installs the package.
    """

    format: str
    starts: tuple[bytes, ...]
    module: str
    extra: str

    def matches(self, start: bytes) -> bool:
        """Tell whether a file that starts so is of this format."""
        return start.startswith(self.starts) or start[4:12].startswith(self.starts)

    def register(self, ref: ImageRef) -> None:
        """Let pillow read this format.

        Raises:
            SampleError: if the package is not installed.
        """
        try:
            module = importlib.import_module(self.module)
        except ImportError as error:
            raise SampleError(
                f"{ref}: a {self.format} image: pip install 'sekd[{self.extra}]'"
            ) from error
        if hasattr(module, "register_heif_opener"):  # the other package registers itself
            module.register_heif_opener()


_OPTIONAL_FORMATS = (
    _OptionalFormat(
        "HEIF",
        tuple(b"ftyp" + brand for brand in (b"hei", b"hev", b"mif1", b"msf1")),
        "pillow_heif",
        "heif",
    ),
    _OptionalFormat("JXL", (b"\xff\x0a", b"JXL \r\n\x87\n"), "pillow_jxl", "jxl"),
)

_limit_lock = Lock()
_RAISE_LIMIT = "Raise pixel_limit of the dataset if it is meant to be so large."


def _refuse_size(image: Image.Image, ref: ImageRef, limit: int) -> None:
    num_pixels = image.width * image.height
    if num_pixels > limit:
        raise SampleError(
            f"{ref}: {image.width} x {image.height} are {num_pixels} pixels, more than the limit "
            f"of {limit}. {_RAISE_LIMIT}"
        )


def _reduction(image: Image.Image, reading: Reading) -> int:
    """Return by what factor, a power of two up to 8, both sides can be divided."""
    num_pixels, sides = image.width * image.height, sorted(image.size)
    if reading.used_pixels is None or num_pixels <= _SMALL or sides[1] > _LONGEST * sides[0]:
        return 1
    used_pixels = reading.used_pixels()
    if used_pixels is None:
        return 1
    needed = used_pixels * _OVERSAMPLING
    return next((factor for factor in (8, 4, 2) if num_pixels >= needed * factor**2), 1)


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Orientation in EXIF -> how the image is turned upright."""


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """Return how an image is turned upright; not at all where its EXIF cannot be read."""
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001  viewers show such an image, too
        return None


def turn_upright(image: Image.Image, turn: Image.Transpose | None) -> Image.Image:
    """Turn an image as :func:`turn_of` says, and forget what its file said beside the pixels."""
    upright = image if turn is None else image.transpose(turn)
    upright.info = {}  # vLLM would find the orientation in it and turn the image again
    return upright


def hash_pixels(image: Image.Image) -> str:
    """Hash the size and the pixels of an image, so that its name and its file do not count."""
    return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert to 8-bit RGB over white."""
    is_16_bit = image.mode.startswith("I;16") or (
        image.mode == "I" and image.format in ("PNG", "PPM")
    )
    if is_16_bit:
        transparency = image.info.get("transparency")
        values = np.asarray(image)
        grey = (values // 256).astype(np.uint8)  # pillow would cut them off at 255
        if isinstance(transparency, int):
            grey[values == transparency] = 255
        return Image.fromarray(grey).convert("RGB")
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"pixels of mode {image.mode} have no known white; save it in 8 bits")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(rgba, mask=rgba.getchannel("A"))
        return white
    return image if image.mode == "RGB" else image.convert("RGB")


_truncation_lock = Lock()
_num_decoding = 0
_is_truncation_allowed = False


@contextlib.contextmanager
def _whole_files_only() -> Iterator[None]:
    """Let pillow refuse truncated files, also where another library told it to take them.

    The setting is one for the process, so it is put back when no thread decodes any more.
    """
    global _num_decoding, _is_truncation_allowed
    with _truncation_lock:
        if _num_decoding == 0:
            _is_truncation_allowed = ImageFile.LOAD_TRUNCATED_IMAGES
            ImageFile.LOAD_TRUNCATED_IMAGES = False
        _num_decoding += 1
    try:
        yield
    finally:
        with _truncation_lock:
            _num_decoding -= 1
            if _num_decoding == 0:
                ImageFile.LOAD_TRUNCATED_IMAGES = _is_truncation_allowed


_formats_with_frames: set[str] = set()


def _say_first_frame(image: Image.Image, ref: ImageRef) -> None:
    """Warn once in a process, for each format, that of several frames the first is shown."""
    name = str(image.format)
    if name in _formats_with_frames or name == "MPO":  # previews, or a stereo camera's other eye
        return
    with contextlib.suppress(Exception):  # a damaged second frame is no fault of the first
        if getattr(image, "is_animated", False):
            _formats_with_frames.add(name)
            logger.warning(
                "%s: a %s of several frames or pages; of such images the first one is shown",
                ref,
                name,
            )
