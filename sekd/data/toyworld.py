"""The drawn world: images of a small taxonomy, for a laptop, a demo or a test.

There are two taxonomies of 3 x 3 x 3 x 3 nodes below a root, with disjoint invented names and
disjoint tints, shapes and colours. The path of an image can be seen: background tint (level 1),
shape (2), colour (3), pattern (4). A node's name depends on its whole path, so that no level can be
named without the levels above it. :func:`write_dataset` writes a dataset in the usual layout: a
folder of PNG files for each leaf, and a taxonomy file. A third, smaller taxonomy is only for the
training of the tiny model, which learns there to answer about all levels at once.
"""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

RANKS = ("kingdom", "order", "family", "genus", "species")
IMAGE_SIZE = 56
_SUPERSAMPLING = 2
_NOISE = 10.0  # standard deviation, in grey values of 255

Colour = tuple[int, int, int]
PathIndex = tuple[int, int, int, int]


@dataclass(frozen=True)
class World:
    """One drawn taxonomy: its names, and the values of each attribute."""

    name: str
    seed: int
    tints: tuple[Colour, ...]
    shapes: tuple[str, ...]
    colours: tuple[Colour, ...]
    patterns: tuple[str, ...]
    names: dict[tuple[int, ...], str] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", _invent_names(self.seed, self._branching))

    @property
    def _branching(self) -> tuple[int, int, int, int]:
        """The number of children of a node of each level but the last, the root's first."""
        return len(self.tints), len(self.shapes), len(self.colours), len(self.patterns)

    @property
    def leaves(self) -> Iterator[PathIndex]:
        """The indices of the leaves."""
        tints, shapes, colours, patterns = map(range, self._branching)
        return itertools.product(tints, shapes, colours, patterns)

    def path(self, leaf: PathIndex) -> list[str]:
        """Return the five names from the root to the leaf."""
        return [self.names[leaf[:depth]] for depth in range(len(leaf) + 1)]

    def taxonomy(self) -> dict[str, list[str]]:
        """Return leaf name -> the names of its path, root first."""
        return {self.path(leaf)[-1]: self.path(leaf) for leaf in self.leaves}


_ONSETS = (("f", "h", "j", "p", "w"), ("b", "d", "g", "k", "l"), ("m", "n", "r", "s", "t"))


def _invent_names(seed: int, branching: Sequence[int]) -> dict[tuple[int, ...], str]:
    """Return a pronounceable word for each node.

    The words of worlds whose seeds differ modulo 3 begin with different letters.
    """
    rng = random.Random(seed)
    onsets = _ONSETS[seed % 3]
    consonants = ("v", "z", "x", "ph", "th", *onsets)
    syllables = [consonant + vowel for consonant in consonants for vowel in "aeiou"]
    endings = ("ia", "us", "on", "or", "is")
    names: dict[tuple[int, ...], str] = {}
    used: set[str] = set()
    for depth in range(len(RANKS)):
        for index in itertools.product(*map(range, branching[:depth])):
            word = ""
            while not word or word in used:
                onset = rng.choice(onsets) + rng.choice("aeiou")
                word = onset + rng.choice(syllables) + rng.choice("lnr") + rng.choice(endings)
            used.add(word)
            names[index] = word
    return names


SEEN = World(
    name="seen",
    seed=1,
    tints=((236, 206, 190), (192, 220, 240), (204, 232, 196)),
    shapes=("circle", "bar", "triangle"),
    colours=((200, 40, 40), (40, 70, 190), (225, 170, 20)),
    patterns=("plain", "striped", "dotted"),
)
UNSEEN = World(
    name="unseen",
    seed=2,
    tints=((92, 60, 58), (46, 60, 104), (50, 90, 58)),
    shapes=("ring", "hourglass", "star"),
    colours=((240, 140, 40), (170, 90, 210), (60, 200, 190)),
    patterns=("plain", "striped", "dotted"),
)
WORLDS = {world.name: world for world in (SEEN, UNSEEN)}
PRACTICE = World(  # for the training of the tiny model alone: nothing is evaluated on it
    name="practice",
    seed=3,
    tints=((150, 148, 112), (112, 138, 160)),
    shapes=("diamond", "square", "arrow"),
    colours=((40, 140, 60), (200, 60, 140)),
    patterns=("plain", "striped", "dotted"),
)


def draw(world: World, leaf: PathIndex, rng: random.Random) -> Image.Image:
    """Draw one image of a leaf: RGB, 56 x 56, with random place, size, angle, light and noise."""
    size = IMAGE_SIZE * _SUPERSAMPLING
    tint, shape = world.tints[leaf[0]], world.shapes[leaf[1]]
    colour, pattern = world.colours[leaf[2]], world.patterns[leaf[3]]
    canvas = Image.new("RGB", (size, size), _jitter(tint, rng))
    radius = size * rng.uniform(0.27, 0.38)
    margin = radius + size * 0.04
    centre = (rng.uniform(margin, size - margin), rng.uniform(margin, size - margin))
    mask = _shape_mask(shape, size, centre, radius, math.radians(rng.uniform(-15, 15)))
    canvas.paste(_fill(_jitter(colour, rng), pattern, size, rng), mask=mask)
    canvas = canvas.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BOX)
    if rng.random() < 0.3:
        canvas = canvas.filter(ImageFilter.GaussianBlur(0.5))
    noise = np.random.default_rng(rng.getrandbits(64)).normal(0, _NOISE, (*canvas.size, 3))
    noisy = np.asarray(canvas, dtype=np.float32) * rng.uniform(0.9, 1.1) + noise
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def _jitter(colour: Colour, rng: random.Random) -> Colour:
    red, green, blue = (min(255, max(0, value + rng.randint(-12, 12))) for value in colour)
    return (red, green, blue)


def _shape_mask(
    shape: str, size: int, centre: tuple[float, float], radius: float, angle: float
) -> Image.Image:
    mask = Image.new("L", (size, size), 0)
    pen = ImageDraw.Draw(mask)
    x, y = centre

    def polygon(points: list[tuple[float, float]], fill: int = 255) -> None:
        cos, sin = math.cos(angle) * radius, math.sin(angle) * radius
        pen.polygon([(x + px * cos - py * sin, y + px * sin + py * cos) for px, py in points], fill)

    def disc(scale: float, fill: int) -> None:
        r = radius * scale
        pen.ellipse((x - r, y - r, x + r, y + r), fill)

    if shape == "circle":
        disc(0.95, 255)
    elif shape == "ring":
        disc(1.0, 255)
        disc(0.5, 0)
    elif shape == "square":
        polygon([(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)])
    elif shape == "triangle":
        polygon([(0, -1.1), (1.05, 0.85), (-1.05, 0.85)])
    elif shape == "hourglass":
        polygon([(-0.85, -1.05), (0.85, -1.05), (0, 0)])
        polygon([(-0.85, 1.05), (0.85, 1.05), (0, 0)])
    elif shape == "diamond":
        polygon([(0, -1.1), (0.7, 0), (0, 1.1), (-0.7, 0)])
    elif shape == "bar":
        polygon([(-1.05, -0.4), (1.05, -0.4), (1.05, 0.4), (-1.05, 0.4)])
    elif shape == "arrow":
        polygon([(-1.0, -0.3), (0, -0.3), (0, -0.9), (1.1, 0), (0, 0.9), (0, 0.3), (-1.0, 0.3)])
    elif shape == "star":
        tips = [
            (math.sin(i * math.pi / 5) * r, -math.cos(i * math.pi / 5) * r)
            for i, r in enumerate((1.15, 0.5) * 5)
        ]
        polygon(tips)
    else:
        raise ValueError(f"unknown shape {shape!r}")
    return mask


def _fill(colour: Colour, pattern: str, size: int, rng: random.Random) -> Image.Image:
    tile = Image.new("RGB", (size, size), colour)
    if pattern == "plain":
        return tile
    pen = ImageDraw.Draw(tile)
    period = round(size * rng.uniform(0.12, 0.15))
    starts = range(-rng.randint(0, period), size, period)
    if pattern == "striped":
        dark = tuple(value // 3 for value in colour)
        for top in starts:
            pen.rectangle((0, top, size, top + period // 2), fill=dark)
    elif pattern == "dotted":
        light = tuple(255 - (255 - value) // 4 for value in colour)
        width = round(0.6 * period)
        for top, left in itertools.product(starts, starts):
            pen.ellipse((left, top, left + width, top + width), fill=light)
    else:
        raise ValueError(f"unknown pattern {pattern!r}")
    return tile


def write_dataset(world: World, directory: Path, *, num_images: int, seed: int) -> None:
    """Write ``images/<leaf name>/<number>.png`` and ``taxonomy.json``.

    Leaves take turns, so their numbers of images differ by at most one. The same arguments write
    the same bytes; other seeds draw other images.
    """
    rng = random.Random(f"{world.name}:{seed}")
    leaves = list(world.leaves)
    rng.shuffle(leaves)
    for number in range(num_images):
        leaf = leaves[number % len(leaves)]
        folder = directory / "images" / world.path(leaf)[-1]
        folder.mkdir(parents=True, exist_ok=True)
        draw(world, leaf, rng).save(folder / f"{number:05d}.png")
    taxonomy = json.dumps(world.taxonomy(), indent=1)
    (directory / "taxonomy.json").write_text(taxonomy, encoding="utf-8")


def write_world(directory: Path, *, num_train: int, num_test: int, seed: int) -> None:
    """Write training and test images of both taxonomies, and two configs that run on them.

    ``config.yaml`` asks the paper's quiz about labelled training images. ``unlabelled.yaml`` knows
    the same images from ``photographs.csv``, which names no class. Training and test images are
    drawn from different seeds, so that they are disjoint. The training images of the tiny model
    were drawn from yet another seed.

    Args:
        num_train: number of images of the seen taxonomy, to elicit and distill.
        num_test: number of images of each taxonomy, to evaluate.
    """
    write_dataset(SEEN, directory / "train", num_images=num_train, seed=2 * seed)
    for world in (SEEN, UNSEEN):
        write_dataset(world, directory / world.name, num_images=num_test, seed=2 * seed + 1)
    images = sorted((directory / "train" / "images").glob("*/*.png"), key=lambda path: path.name)
    rows = ["image", *(image.relative_to(directory).as_posix() for image in images)]
    (directory / "photographs.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    for name, sections in _CONFIGS.items():
        content = (_MODEL + sections).format(
            directory=directory,
            run_dir=directory.parent,
            model=Path(__file__).parents[1] / "tiny_model",
            ranks=", ".join(RANKS),
            seed=seed,
        )
        (directory / name).write_text(content, encoding="utf-8")


_MODEL = """\
# The drawn world, for a laptop. Paths are relative to the directory in which sekd runs.
run_dir: {run_dir}

model:
  path: {model}
  dtype: float32

data:
  seen:
    images: {directory}/seen/images
    taxonomy: {directory}/seen/taxonomy.json
    level_names: [{ranks}]
  unseen:
    images: {directory}/unseen/images
    taxonomy: {directory}/unseen/taxonomy.json
    level_names: [{ranks}]
"""
_CONFIGS = {
    "config.yaml": """\
  train:
    images: {directory}/train/images
    taxonomy: {directory}/train/taxonomy.json
    level_names: [{ranks}]

elicit:
  dataset: train
  plain: {{prompts: [Describe the organism in the image.]}}
  runtime: {{batch_size: 64, shard_size: 500}}

distill:
  lora: {{rank: 16, alpha: 32, dropout: 0.0}}
  learning_rate: 2e-3
  epochs: 4.0
  global_batch: 8
  seed: {seed}
  runtime: {{batch_size: 8, num_workers: 0, logging_steps: 100}}

evaluate:
  datasets: [seen, unseen]
  controls: [taxonomy, blind, shuffled, circular, siblings]
  control_limit: 81
  runtime: {{batch_size: 100, shard_size: 200}}
""",
    "unlabelled.yaml": """\
  photographs:  # a list of images, without a label; the model's own descent gives them paths
    table: {directory}/photographs.csv
    taxonomy: {directory}/train/taxonomy.json
    level_names: [{ranks}]
    options: children

elicit:
  dataset: photographs
  plain: {{prompts: [Describe the organism in the image.]}}
  runtime: {{batch_size: 64, shard_size: 500}}

distill:
  lora: {{rank: 16, alpha: 32, dropout: 0.0}}
  learning_rate: 2e-3
  epochs: 2.5
  global_batch: 8
  seed: {seed}
  runtime: {{batch_size: 8, num_workers: 0, logging_steps: 100}}

evaluate:
  datasets: [seen, unseen]
  paradigms: [joint_forced, joint, independent, conditioned, open, descent]
  controls: [siblings]
  control_limit: null
  runtime: {{batch_size: 100, shard_size: 400}}
""",
}
