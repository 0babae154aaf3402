"""Predicted paths to test with: names of a small world, with probabilities of choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from sekd.data.image_refs import ImageRef
from sekd.data.path_predictions import PathPrediction, PredictedLevel

RANKS = ("class", "order", "species")
GULL, OWL = ("bird", "gulls", "herring gull"), ("bird", "owls", "barn owl")


def predicted(
    image: str, names: Sequence[str], probabilities: Sequence[float], common: str | None = None
) -> PathPrediction:
    """Make a prediction; each probability is that of a node among its siblings."""
    levels, node, path_probability = [], "root", 1.0
    for rank, name, probability in zip(RANKS, names, probabilities, strict=False):
        node, path_probability = f"{node}/{name}", path_probability * probability
        levels.append(PredictedLevel(rank, node, name, None, probability, path_probability))
    levels[-1] = replace(levels[-1], common_name=common)
    return PathPrediction(image=image, levels=tuple(levels)).accept(0)


def draw_images(folder: Path, names: Sequence[str]) -> dict[str, ImageRef]:
    """Write a coloured image for each name; return name -> reference."""
    images = {}
    for number, name in enumerate(names):
        path = folder / f"{number}.png"
        Image.new("RGB", (300, 200), (40 * number % 256, 120, 90)).save(path)
        images[name] = ImageRef(path)
    return images
