"""The number of pixels that a processor makes of an image is found with one probe."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from transformers import (
    CLIPImageProcessor,
    LlavaNextImageProcessor,
    Qwen2VLImageProcessor,
)

from sekd.models.image_size import UsedPixels


class FakeProcessor:
    """Holds an image processor, as the processors of transformers do."""

    def __init__(self, image_processor: object) -> None:
        self.image_processor = image_processor


@pytest.mark.parametrize(
    ("image_processor", "least", "most"),
    [
        (CLIPImageProcessor(), 224**2, 224**2),
        # Tiles of two by two, and an overview.
        (LlavaNextImageProcessor(), 4 * 224**2, 5 * 336**2),
        # Two equal frames in time.
        (Qwen2VLImageProcessor(max_pixels=640 * 28 * 28), 600 * 28**2, 2 * 640 * 28**2),
    ],
    ids=["square", "tiles", "range"],
)
def test_the_number_is_at_least_what_is_used(
    image_processor: object, least: int, most: int
) -> None:
    used_pixels = UsedPixels(FakeProcessor(image_processor))()
    assert used_pixels is not None
    assert least <= used_pixels <= most


def test_the_processor_is_asked_once() -> None:
    asked: list[tuple[int, int]] = []

    def image_processor(images: list[Image.Image], return_tensors: str) -> dict[str, torch.Tensor]:
        asked.append(images[0].size)
        return {"pixel_values": torch.zeros(1, 3, 7, 5), "sizes": torch.zeros(9, dtype=torch.int64)}

    used_pixels = UsedPixels(FakeProcessor(image_processor))
    assert asked == []
    assert [used_pixels(), used_pixels()] == [35, 35]
    assert len(asked) == 1


def test_a_processor_that_takes_no_probe_lets_images_be_read_whole() -> None:
    def refuse(**_: object) -> None:
        raise ValueError("no squares")

    assert UsedPixels(FakeProcessor(refuse))() is None
