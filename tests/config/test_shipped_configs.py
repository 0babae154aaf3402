"""Every config below configs/ is loaded, on small copies of the datasets as downloaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import layouts
import pytest

from sekd.config import load_config
from sekd.data.class_matching import read_aliases
from sekd.data.images import read_image
from sekd.data.samples import Dataset
from sekd.data.taxonomy import Taxonomy

FOLDER = Path(__file__).parents[2] / "configs"
CONFIGS = sorted(FOLDER.rglob("*.y*ml"))
SETS = ("cub", "animals", "plants", "food", "imagenet_animals", "imagenet_artifacts")


def test_every_model_family_has_a_config() -> None:
    assert [path.stem for path in CONFIGS] == [
        *("internvl2.5-8b", "internvl3-8b", "llava-onevision-7b", "qwen2.5-vl-7b", "qwen3-vl-8b")
    ]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_config_has_the_six_sets_of_the_benchmark(path: Path) -> None:
    config = load_config(path)
    assert {*config.data} == {*SETS, *(f"{name}_train" for name in SETS)}
    assert config.data == load_config(CONFIGS[0]).data
    config.dataset(config.elicit.dataset, "elicit.dataset")
    for name in config.evaluate.datasets:
        config.dataset(name, "evaluate.datasets")


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder ``datasets`` of the configs."""
    folder = tmp_path_factory.mktemp("shipped")
    datasets = folder / "datasets"
    layouts.write_cub(datasets / "CUB_200_2011")
    for split in ("train_mini", "val"):
        layouts.write_inat21(datasets / "inat2021", split=split)
    layouts.write_food101(datasets / "food-101")
    layouts.write_imagenet(datasets / "imagenet")
    species = {name: [*above.split(), name] for name, (_, above) in layouts.INAT_SPECIES.items()}
    row = {
        "image": "/projectnb/ivc-ml/yuwentan/dataset/CUB_200_2011/images/" + layouts.CUB_IMAGES[1],
        "label": "Black-footed Albatross",
        "split": "test",
    }
    aliases = read_aliases(FOLDER / "cub200_aliases.csv")
    cub = {name: ["Gaviiformes", "Gaviidae", "Gavia", name] for name in aliases.values()}
    albatross = "Black-footed Albatross"
    cub[albatross] = ["Procellariiformes", "Diomedeidae", "Phoebastria", albatross]
    taxonomies = {
        "CUB200": cub,
        "Inat_animal": {k: path for k, path in species.items() if path[0] == "Animalia"},
        "Inat_plantae": {k: path for k, path in species.items() if path[0] == "Plantae"},
        "Food": {k: path for k, path in layouts.FOOD_TAXONOMY.items() if k != "hot dog"},
        "imagenet_animal": {"tench": ["animal", "fish", "tench"]},
        "imagenet_artifact": {"goldfish": ["artifact", "toy", "goldfish"]},
    }
    layouts.write_files(
        datasets,
        {
            "annotations/CUB200_with_random_choice.jsonl": json.dumps(row),
            **{f"taxonomies/hierarchy_{k}.json": json.dumps(v) for k, v in taxonomies.items()},
        },
    )
    shutil.copytree(FOLDER, folder / "configs")
    return folder


@pytest.mark.parametrize("name", [*SETS, *(f"{name}_train" for name in SETS)])
def test_a_set_loads_as_it_is_downloaded(
    downloads: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(downloads)
    for path in CONFIGS:
        dataset = Dataset.load(name, load_config(path).data[name])
        for sample in dataset.samples:
            assert sample.leaf is not None
            assert read_image(sample.image).size == (24, 16)


def test_the_alias_file_of_cub_fits_its_published_taxonomy(shared_data: Path) -> None:
    taxonomy = Taxonomy.load(shared_data / "taxonomies/hierarchy_CUB200.json")
    aliases = read_aliases(FOLDER / "cub200_aliases.csv")
    assert len({taxonomy.leaf(leaf).id for leaf in aliases.values()}) == 17
