"""Samples and runs as one HTML page that needs no other file."""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Sequence

from jinja2 import Environment, PackageLoader

from sekd.data.image_refs import ImageRef
from sekd.data.images import Reading, read_image
from sekd.errors import SampleError
from sekd.report.inspect.views import RunView, SampleView

_MAX_PIXELS = 480
_AS_THUMBNAIL = Reading(pixel_limit=sys.maxsize, used_pixels=lambda: _MAX_PIXELS**2)
"""The teacher was shown the image before, within the limit of its dataset."""


def render_inspection(title: str, run: RunView | None, samples: Sequence[SampleView]) -> str:
    """Render the page; names and texts of users are escaped, scaled-down images are inside it."""
    environment = Environment(loader=PackageLoader("sekd.report.inspect", "."), autoescape=True)
    with_images = [(sample, _image_as_uri(ImageRef.parse(sample.image))) for sample in samples]
    return environment.get_template("page.html").render(title=title, run=run, samples=with_images)


def _image_as_uri(ref: ImageRef) -> str | None:
    """Return ``None`` for an image that cannot be read any more."""
    try:
        image = read_image(ref, _AS_THUMBNAIL)
    except SampleError:
        return None
    image.thumbnail((_MAX_PIXELS, _MAX_PIXELS))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
