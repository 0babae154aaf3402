"""Pictures of the shapes and kinds that people have, in a folder per leaf, with their taxonomy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

EXIF_ORIENTATION = 0x0112
ROTATED_BY_90 = 6
PATHS = {
    "herring gull": ["animalia", "chordata", "aves", "herring gull"],
    "common gull": ["animalia", "chordata", "aves", "common gull"],
    "pike": ["animalia", "chordata", "fish", "pike"],
    "honey bee": ["animalia", "arthropoda", "insecta", "honey bee"],
}
SIZES = {"plain": (90, 60), "small": (16, 16), "high": (690, 1542), "thin": (1, 300)}
MODES = {"alpha": "RGBA", "grey": "L"}


def write_pictures(folder: Path) -> Path:
    """Write one picture of every shape and kind, and the taxonomy; returns the images' folder.

    A few processors refuse the thin one (an aspect ratio above 200).
    """
    (folder / "taxonomy.json").write_text(json.dumps(PATHS), encoding="utf-8")
    rng = np.random.default_rng(0)
    images = folder / "images"
    names = [*SIZES, *MODES, "turned", "second"]
    for number, name in enumerate(names):
        leaf = images / list(PATHS)[number % len(PATHS)]
        leaf.mkdir(parents=True, exist_ok=True)
        width, height = SIZES.get(name, (60, 90))
        coarse = rng.integers(0, 255, (4, 4, 4), dtype=np.uint8)
        picture = Image.fromarray(coarse, "RGBA").resize((width, height), Image.Resampling.NEAREST)
        exif = Image.Exif()
        if name == "turned":
            exif[EXIF_ORIENTATION] = ROTATED_BY_90
        picture.convert(MODES.get(name, "RGB")).save(leaf / f"{name}.png", exif=exif)
    return images
