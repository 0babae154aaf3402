"""Time and memory from the metadata of iNaturalist 2021 to samples.

    python benchmarks/data.py [--check]

measures it with other things. The file has the size and the fields of the real one: 2.7 million
images of 10,000 categories, about 1 GB of JSON. No image is there, because none is opened.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from figures import Figure

NUM_IMAGES = 2_686_843
NUM_CATEGORIES = 10_000
_RANKS = ("kingdom", "phylum", "class", "order", "family", "genus")
_NODES = (3, 13, 51, 273, 1103, 4884)
"""Nodes of each rank, as many as the real taxonomy has."""


def write_metadata(path: Path) -> None:
    """Write a file of the same size as ``train.json``."""
    categories = []
    for number in range(NUM_CATEGORIES):
        ranks = {
            rank: f"{rank.title()}aceae{number * nodes // NUM_CATEGORIES}"
            for rank, nodes in zip(_RANKS, _NODES, strict=True)
        }
        categories.append(
            {
                "id": number,
                "name": f"{ranks['genus']} epithet{number}",
                "common_name": f"Common Name {number}",
                "supercategory": "Plants",
                **ranks,
                "specific_epithet": f"epithet{number}",
                "image_dir_name": "_".join([f"{number:05d}", *ranks.values(), f"epithet{number}"]),
            }
        )
    with path.open("w", encoding="utf-8") as file:
        file.write('{"info": {"year": 2021}, "images": [')
        for image in range(NUM_IMAGES):
            folder = categories[image % NUM_CATEGORIES]["image_dir_name"]
            file.write(", " if image else "")
            file.write(
                f'{{"id": {image}, "width": 500, "height": 333, "file_name": "train/{folder}/'
                f'{image:08x}-5dca-4da1-9a5f-b0ab1a4ecb5b.jpg", "license": 0, "rights_holder": '
                '"S. Somebody", "date": "2014-07-26 03:36:08+00:00", "latitude": 43.83486, '
                '"longitude": -71.22231, "location_uncertainty": 77}'
            )
        file.write(f'], "categories": {json.dumps(categories)}, "annotations": [')
        for image in range(NUM_IMAGES):
            file.write(", " if image else "")
            file.write(
                f'{{"id": {image}, "image_id": {image}, "category_id": {image % NUM_CATEGORIES}}}'
            )
        file.write('], "licenses": []}')


def measure_metadata() -> Iterator[Figure]:
    """Load the samples in a process of its own, whose memory is that of the loading alone."""
    with tempfile.TemporaryDirectory() as folder:
        write_metadata(Path(folder, "train.json"))
        command = [sys.executable, __file__, folder]
        seconds, gigabytes = map(float, subprocess.check_output(command, text=True).split())
    yield Figure("iNat21-sized metadata to samples", seconds, "s", 60)
    yield Figure("peak memory of that process", gigabytes, "GB", 3)


def main() -> None:
    from sekd.config import DatasetSpec
    from sekd.data.samples import Dataset

    started = time.perf_counter()
    spec = DatasetSpec(images=Path(sys.argv[1]), layout="inat21", split="train")
    dataset = Dataset.load("inat21", spec)
    seconds = time.perf_counter() - started
    assert len(dataset.samples) == NUM_IMAGES
    assert len(dataset.taxonomy.leaf_ids) == NUM_CATEGORIES
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)


if __name__ == "__main__":
    main()
