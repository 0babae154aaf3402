"""docs/data.md: every config loads a copy of the layout that it is about, in at most 12 lines."""

from __future__ import annotations

import json
import re
from pathlib import Path

import layouts
import pytest

from sekd.config import load_config
from sekd.data.images import read_image
from sekd.data.samples import Dataset

TEXT = (Path(__file__).parents[2] / "docs" / "data.md").read_text("utf-8")
CONFIGS = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.M | re.S)


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that the configs name, as it is downloaded."""
    folder = tmp_path_factory.mktemp("downloads")
    layouts.write_grocery(folder / "grocery")
    layouts.write_cub(folder / "CUB_200_2011")
    for split in ("train_mini", "val"):
        layouts.write_inat21(folder / "inat2021", split=split)
    layouts.write_food101(folder / "food-101")
    layouts.write_imagenet(folder / "imagenet")
    layouts.write_hub_parquet(folder / "pets")
    layouts.write_webdataset(folder / "shards")
    return layouts.write_files(
        folder,
        {
            "hierarchy_CUB200.json": json.dumps(
                {n: [*path[:2], "genus", n] for n, path in layouts.CUB_TAXONOMY.items()}
            ),
            "aliases.csv": "class,leaf\n023.Brandt_Cormorant,Brandt's Cormorant\n"
            "141.Artic_Tern,Arctic Tern\n",
            "hierarchy_Food.json": json.dumps(layouts.FOOD_TAXONOMY),
            "hierarchy_imagenet_animal.json": json.dumps(layouts.IMAGENET_TAXONOMY),
            "birds/taxonomy.csv": "class,species\nbird,crow\nbird,owl\n",
            "birds/train/Crow/1.jpg": layouts.jpeg(),
            "birds/test/Crow/1.jpg": layouts.jpeg(),
            "survey.csv": "image\nbirds/train/Crow/1.jpg\n",
            "birds.csv": "file,species\nbirds/train/Crow/1.jpg,crow\n",
            "birds.json": '{"crow": ["bird", "crow"], "owl": ["bird", "owl"]}',
        },
    )


@pytest.mark.parametrize("text", CONFIGS, ids=lambda text: text.split()[1])
def test_a_config_of_the_page_loads_its_download(
    downloads: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(text.splitlines()) <= 12
    monkeypatch.chdir(downloads)
    Path("my.yaml").write_text(text)
    config = load_config("my.yaml")
    config.dataset(config.elicit.dataset, "elicit.dataset")
    for name in config.evaluate.datasets if "evaluate:" in text else []:
        config.dataset(name, "evaluate.datasets")
    for name, spec in config.data.items():
        dataset = Dataset.load(name, spec)
        for sample in dataset.samples:
            assert (sample.leaf is None) == (spec.options == "children")
            read_image(sample.image)


def test_the_page_has_a_config_for_every_common_download() -> None:
    layouts_named = set(re.findall(r"layout: (\w+)", "".join(CONFIGS)))
    assert layouts_named == {
        *("cub200", "inat21", "food101", "imagenet", "huggingface", "webdataset"),
    }
