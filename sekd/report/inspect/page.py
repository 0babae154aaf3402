"""Samples and runs as one HTML page that needs nothing beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader

from sekd.data.images import read_image
from sekd.errors import SampleError
from sekd.report.inspect.views import RunView, SampleView

_PIXELS = 480


def page(title: str, run: RunView | None, samples: Sequence[SampleView]) -> str:
    """The page; names and texts of users are escaped, images are inside it, scaled down."""
    environment = Environment(loader=PackageLoader("sekd.report.inspect", "."), autoescape=True)
    pictures = [(sample, _data_uri(Path(sample.image))) for sample in samples]
    return environment.get_template("page.html").render(title=title, run=run, samples=pictures)


def _data_uri(path: Path) -> str | None:
    """``None`` for an image that cannot be read any more."""
    try:
        image = read_image(path)
    except SampleError:
        return None
    image.thumbnail((_PIXELS, _PIXELS))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
