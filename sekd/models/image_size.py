"""How many pixels a model's processor makes of an image at most."""

from __future__ import annotations

import logging
from threading import Lock
from typing import Any

import torch
from PIL import Image

logger = logging.getLogger(__name__)

_PROBE_SIDE = 4096
_CHANNELS = 3
_lock = Lock()


class UsedPixels:
    """Finds the number when it is first asked for, with one large image.

    Processors describe their sizes in many ways: a fixed square, tiles and an overview, a range of
    areas. What they return for a large image holds for all of them, and counts some pixels twice
    rather than too few.

    Args:
        processor: a processor of transformers, with an ``image_processor``.
    """

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._is_known = False
        self._num_pixels: int | None = None

    def __call__(self) -> int | None:
        """Return the number; ``None`` where the processor does not take the probe."""
        with _lock:
            if not self._is_known:
                self._num_pixels = _probe(self._processor)
                self._is_known = True
        return self._num_pixels


def _probe(processor: Any) -> int | None:
    image = Image.new("RGB", (_PROBE_SIDE, _PROBE_SIDE))
    try:
        features = processor.image_processor(images=[image], return_tensors="pt")
    except Exception as error:  # noqa: BLE001  a processor may fail in any way; nothing is lost
        logger.info(
            "large images are decoded whole: the processor does not take a probe: %s", error
        )
        return None
    num_values = sum(
        value.numel()
        for value in features.values()
        if isinstance(value, torch.Tensor) and value.is_floating_point()
    )
    return num_values // _CHANNELS or None
