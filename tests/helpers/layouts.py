"""Small synthetic copies of datasets in the exact layout in which they are downloaded."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from PIL import Image


def jpeg(color: str = "red", size: tuple[int, int] = (24, 16)) -> bytes:
    """Encode an image of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "JPEG")
    return buffer.getvalue()


def write_files(root: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write files below a folder: relative path -> content."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


CUB_IMAGES = {
    1: "001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg",
    2: "001.Black_footed_Albatross/Black_Footed_Albatross_0009_34.jpg",
    3: "023.Brandt_Cormorant/Brandt_Cormorant_0001_22911.jpg",
    4: "141.Artic_Tern/Artic_Tern_0001_143014.jpg",
}
CUB_CLASSES = {1: "001.Black_footed_Albatross", 23: "023.Brandt_Cormorant", 141: "141.Artic_Tern"}
CUB_TAXONOMY = {
    "Black-footed Albatross": ["Procellariiformes", "Diomedeidae", "Black-footed Albatross"],
    "Brandt's Cormorant": ["Suliformes", "Phalacrocoracidae", "Brandt's Cormorant"],
    "Arctic Tern": ["Charadriiformes", "Laridae", "Arctic Tern"],
    "Herring Gull": ["Charadriiformes", "Laridae", "Herring Gull"],
}


def write_cub(root: Path) -> Path:
    """Write ``CUB_200_2011``, and ``taxonomy.json`` beside it."""
    class_of = {1: 1, 2: 1, 3: 23, 4: 141}
    write_files(
        root,
        {
            "README": "Caltech-UCSD Birds-200-2011\n",
            "images.txt": "".join(f"{i} {path}\n" for i, path in CUB_IMAGES.items()),
            "image_class_labels.txt": "".join(f"{i} {c}\n" for i, c in class_of.items()),
            "classes.txt": "".join(f"{i} {name}\n" for i, name in CUB_CLASSES.items()),
            "train_test_split.txt": "1 0\n2 1\n3 1\n4 0\n",
            "bounding_boxes.txt": "1 60.0 27.0 325.0 304.0\n",
            "../taxonomy.json": json.dumps(CUB_TAXONOMY),
            **{f"images/{path}": jpeg() for path in CUB_IMAGES.values()},
        },
    )
    return root


INAT_SPECIES = {
    "Corvus corax": ("Common Raven", "Animalia Chordata Aves Passeriformes Corvidae Corvus"),
    "Corvus corone": ("Carrion Crow", "Animalia Chordata Aves Passeriformes Corvidae Corvus"),
    "Abies alba": ("Silver Fir", "Plantae Tracheophyta Pinopsida Pinales Pinaceae Abies"),
}
_RANKS = ("kingdom", "phylum", "class", "order", "family", "genus")


def write_inat21(
    root: Path, *, with_json: bool = True, with_images: bool = True, split: str = "val"
) -> Path:
    """Write a split of iNaturalist 2021, with two images for each species."""
    content: dict[str, list[dict[str, Any]]] = {
        "info": [], "images": [], "categories": [], "annotations": [], "licenses": []
    }  # fmt: skip
    for number, (name, (common_name, above)) in enumerate(INAT_SPECIES.items()):
        ranks = dict(zip(_RANKS, above.split(), strict=True))
        epithet = name.split()[1]
        folder = "_".join([f"{number:05d}", *ranks.values(), epithet])
        content["categories"].append(
            {
                "id": number,
                "name": name,
                "common_name": common_name,
                "supercategory": "Birds",
                **ranks,
                "specific_epithet": epithet,
                "image_dir_name": folder,
            }
        )
        for copy in range(2):
            image_id = 100 - 2 * number - copy
            path = f"{split}/{folder}/00{image_id}ab-4f.jpg"
            content["images"].append(
                {
                    "id": image_id,
                    "width": 24,
                    "height": 16,
                    "file_name": path,
                    "license": 0,
                    "rights_holder": "Zoë 🐦",
                    "date": "2014-07-26 03:36:08+00:00",
                    "latitude": None,
                    "longitude": 8.5,
                    "location_uncertainty": 10,
                }
            )
            content["annotations"].append(
                {"id": image_id, "image_id": image_id, "category_id": number}
            )
            if with_images:
                write_files(root, {path: jpeg()})
    content["annotations"].reverse()
    root.mkdir(parents=True, exist_ok=True)
    if with_json:
        (root / f"{split}.json").write_text(
            json.dumps({**content, "info": {"year": 2021, "contributor": "iNat"}})
        )
    return root


FOOD_TAXONOMY = {
    "apple pie": ["food", "dessert", "apple pie"],
    "caesar salad": ["food", "appetizers", "caesar salad"],
    "hot dog": ["food", "main", "hot dog"],
}


def write_food101(root: Path) -> Path:
    """Write ``food-101``, with a class that the taxonomy does not have, and the taxonomy."""
    classes = {"apple_pie": "Apple pie", "caesar_salad": "Caesar salad", "hot_dog": "Hot dog"}
    train = {name: [f"{name}/100{i}" for i in range(2)] for name in classes}
    test = {name: [f"{name}/200{i}" for i in range(1)] for name in classes}
    return write_files(
        root,
        {
            "meta/classes.txt": "\n".join(classes) + "\n",
            "meta/labels.txt": "\n".join(classes.values()) + "\n",
            "meta/train.json": json.dumps(train),
            "meta/test.json": json.dumps(test),
            "meta/train.txt": "\n".join(chain(*train.values())),
            "meta/test.txt": "\n".join(chain(*test.values())),
            "../food.json": json.dumps(FOOD_TAXONOMY),
            **{
                f"images/{path}.jpg": jpeg()
                for paths in [*train.values(), *test.values()]
                for path in paths
            },
        },
    )


IMAGENET_WORDS = {
    "n01440764": "tench, Tinca tinca",
    "n01443537": "goldfish, Carassius auratus",
    "n01514668": "cock",
}
IMAGENET_TAXONOMY = {
    "tench": ["animal", "fish", "tench"],
    "goldfish": ["animal", "fish", "goldfish"],
    "rooster": ["animal", "bird", "rooster"],
}


def write_imagenet(root: Path) -> Path:
    """Write ImageNet as Kaggle has it, with training folders and flat validation images."""
    val = {"ILSVRC2012_val_00000001": "n01443537", "ILSVRC2012_val_00000002": "n01440764"}
    return write_files(
        root,
        {
            "LOC_synset_mapping.txt": "".join(f"{s} {w}\n" for s, w in IMAGENET_WORDS.items()),
            "LOC_val_solution.csv": "ImageId,PredictionString\n"
            + "".join(f"{i},{s} 85 1 499 272 \n" for i, s in val.items()),
            "taxonomy.json": json.dumps(IMAGENET_TAXONOMY),
            **{
                f"ILSVRC/Data/CLS-LOC/train/{s}/{s}_{i}.JPEG": jpeg()
                for s in ("n01440764", "n01443537")
                for i in (18, 36)
            },
            **{f"ILSVRC/Data/CLS-LOC/val/{image}.JPEG": jpeg() for image in val},
        },
    )


AIRCRAFT = {
    "1025794": ("707-320", "Boeing 707", "Boeing"),
    "0983230": ("F/A-18", "F/A-18", "McDonnell Douglas"),
    "0062765": ("A318", "A320", "Airbus"),
}


def write_aircraft(root: Path) -> Path:
    """Write ``fgvc-aircraft-2013b``."""
    files: dict[str, str | bytes] = {f"data/images/{image}.jpg": jpeg() for image in AIRCRAFT}
    for split, images in {"train": list(AIRCRAFT)[:2], "test": list(AIRCRAFT)[2:]}.items():
        for rank, name in enumerate(("variant", "family", "manufacturer")):
            lines = [f"{image} {AIRCRAFT[image][rank]}\n" for image in images]
            files[f"data/images_{name}_{split}.txt"] = "".join(lines)
    return write_files(root, files)


CIFAR_NAMES = {"fine": ("apple", "aquarium_fish", "beaver"), "coarse": ("fish", "fruit", "mammal")}


def write_cifar100(root: Path) -> Path:
    """Write ``cifar-100-binary`` with three training images and one test image."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3072), np.uint8)
    labels = [(1, 0), (0, 1), (2, 2), (1, 0)]
    records = [bytes(pair) + row.tobytes() for pair, row in zip(labels, pixels, strict=True)]
    names = {f"{k}_label_names.txt": "\n".join(v) + "\n\n" for k, v in CIFAR_NAMES.items()}
    return write_files(root, {"train.bin": b"".join(records[:3]), "test.bin": records[3], **names})


def write_grocery(root: Path) -> Path:
    """Write the Grocery Store Dataset: nested folders, lists, and a table of classes."""
    products = {
        "Golden-Delicious": ("Fruit/Apple/Golden-Delicious", 0, "Apple", 0),
        "Pink-Lady": ("Fruit/Apple/Pink-Lady", 1, "Apple", 0),
        "Avocado": ("Fruit/Avocado", 2, "Avocado", 1),
        "Oat-Milk": ("Packages/Oat-Milk", 3, "Oat-Milk", 2),
    }
    files: dict[str, str | bytes] = {
        "classes.csv": "Class Name (str),Class ID (int),Coarse Class Name (str),"
        "Coarse Class ID (int),Iconic Image Path (str)\n"
        + "".join(f"{n},{i},{c},{k},/iconic/{n}.jpg\n" for n, (_, i, c, k) in products.items())
    }
    for split in ("train", "test"):
        lines = []
        for name, (folder, number, _, coarse) in products.items():
            path = f"{split}/{folder}/{name}_001.jpg"
            files[path] = jpeg()
            lines.append(f"{path}, {number}, {coarse}\n")
        files[f"{split}.txt"] = "".join(lines)
    return write_files(root, files)


def write_products(root: Path) -> Path:
    """Write Stanford Online Products."""
    lines = "1 1 1 bicycle_final/1_0.JPG\n2 1 1 bicycle_final/1_1.JPG\n3 2 2 cabinet_final/9.JPG\n"
    names = [line.split()[3] for line in lines.splitlines()]
    header = "image_id class_id super_class_id path\n"
    return write_files(root, {"Ebay_train.txt": header + lines, **{n: jpeg() for n in names}})


PET_NAMES = ["abyssinian", "beagle", "siamese"]
PET_TAXONOMY = {
    "abyssinian": ["cat", "abyssinian"],
    "siamese": ["cat", "siamese"],
    "beagle": ["dog", "beagle"],
}


def _pets() -> datasets.Dataset:
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=PET_NAMES)}
    )
    rows = {
        "image": [
            {"bytes": jpeg(color), "path": f"{color}.jpg"} for color in ("red", "blue", "tan")
        ],
        "label": [2, 0, 1],
    }
    return datasets.Dataset.from_dict(rows, features=features)


def write_hub_parquet(root: Path) -> Path:
    """Write the clone of a dataset's repository on the Hub, with two splits."""
    (root / "data").mkdir(parents=True)
    for split in ("train", "test"):
        _pets().to_parquet(str(root / f"data/{split}-00000-of-00001.parquet"))
    write_files(root, {"README.md": "---\n", "../pets.json": json.dumps(PET_TAXONOMY)})
    return root


def write_saved_dataset(root: Path) -> Path:
    """Write what ``DatasetDict.save_to_disk`` writes."""
    datasets.DatasetDict({"train": _pets(), "test": _pets()}).save_to_disk(str(root))
    write_files(root, {"../pets.json": json.dumps(PET_TAXONOMY)})
    return root


def write_webdataset(root: Path) -> Path:
    """Write two shards of a WebDataset, with a class in ``.cls`` and more in ``.json``."""
    root.mkdir(parents=True)
    for shard in range(2):
        with tarfile.open(root / f"pets-train-{shard:06d}.tar", "w") as tar:
            for index in range(3):
                key = f"sample{shard * 3 + index:06d}"
                record = json.dumps({"key": key, "caption": "a pet", "label": PET_NAMES[index]})
                for suffix, content in (
                    ("jpg", jpeg()),
                    ("cls", str(index).encode()),
                    ("json", record.encode()),
                ):
                    info = tarfile.TarInfo(f"{key}.{suffix}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    files = {"classnames.txt": "\n".join(PET_NAMES), "../pets.json": json.dumps(PET_TAXONOMY)}
    return write_files(root, files)


LAYOUTS: Mapping[str, tuple[Callable[[Path], Path], Mapping[str, Any]]] = {
    "grocery": (write_grocery, {"taxonomy": "folders", "split": "train"}),
    "cub": (
        write_cub,
        {"layout": "cub200", "split": "train", "taxonomy": "taxonomy.json", "unmatched": "skip"},
    ),
    "inat21": (write_inat21, {"layout": "inat21", "split": "val"}),
    "food-101": (write_food101, {"layout": "food101", "split": "train", "taxonomy": "food.json"}),
    "imagenet": (
        write_imagenet,
        {"layout": "imagenet", "split": "val", "taxonomy": "imagenet/taxonomy.json"},
    ),
    "pets": (
        write_hub_parquet,
        {"layout": "huggingface", "split": "train", "taxonomy": "pets.json"},
    ),
    "shards": (write_webdataset, {"layout": "webdataset", "taxonomy": "pets.json"}),
}
"""Name of a folder -> what writes it, and the settings of its dataset beside ``images``."""
