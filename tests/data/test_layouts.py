"""Every layout loads as it is downloaded: copies with the names and quirks of the real ones."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import layouts
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sekd.config import DatasetSpec
from sekd.data.images import read_image
from sekd.data.match_report import report_matches
from sekd.data.samples import Dataset
from sekd.errors import ConfigError, SampleError


def load(**spec: Any) -> Dataset:
    """Load a dataset, and read every image of it."""
    dataset = Dataset.load("data", DatasetSpec(**spec))
    for sample in dataset.samples:
        assert read_image(sample.image).size in ((24, 16), (32, 32))
    return dataset


def leaves(dataset: Dataset) -> dict[str, str | None]:
    return {sample.id: sample.leaf.id if sample.leaf else None for sample in dataset.samples}


def test_nested_folders_are_their_own_taxonomy(tmp_path: Path) -> None:
    root = layouts.write_grocery(tmp_path / "grocery")
    train, test = (
        load(images=root, split=split, taxonomy=Path("folders")) for split in ("train", "test")
    )
    assert leaves(train) == {
        "Fruit/Apple/Golden-Delicious/Golden-Delicious_001.jpg": "Fruit/Apple/Golden-Delicious",
        "Fruit/Apple/Pink-Lady/Pink-Lady_001.jpg": "Fruit/Apple/Pink-Lady",
        "Fruit/Avocado/Avocado_001.jpg": "Fruit/Avocado",
        "Packages/Oat-Milk/Oat-Milk_001.jpg": "Packages/Oat-Milk",
    }
    assert train.taxonomy.digest() == test.taxonomy.digest()


def test_nested_folders_may_have_another_taxonomy(tmp_path: Path) -> None:
    root = layouts.write_grocery(tmp_path / "grocery")
    paths = {n: ["food", n] for n in ("golden delicious", "pink lady", "avocado", "oat milk")}
    (tmp_path / "t.json").write_text(json.dumps(paths))
    found = leaves(load(images=root, split="test", taxonomy=tmp_path / "t.json"))
    assert set(found.values()) == {f"food/{name}" for name in paths}


def test_a_leaf_with_children_leaves_them_their_own_folders(tmp_path: Path) -> None:
    layouts.write_files(
        tmp_path,
        {
            "images/Sayornis/1.jpg": layouts.jpeg(),
            "images/Sayornis/Sayornis phoebe/2.jpg": layouts.jpeg(),
            "images/Sayornis/2019/3.jpg": layouts.jpeg(),
            "t.json": '{"Sayornis": ["b", "Sayornis"],'
            ' "Sayornis phoebe": ["b", "Sayornis", "Sayornis phoebe"]}',
        },
    )
    assert leaves(load(images=tmp_path / "images", taxonomy=tmp_path / "t.json")) == {
        "Sayornis/1.jpg": "b/Sayornis",
        "Sayornis/2019/3.jpg": "b/Sayornis",
        "Sayornis/Sayornis phoebe/2.jpg": "b/Sayornis/Sayornis phoebe",
    }


def test_cub_is_joined_by_its_ids_and_matched_by_an_alias_file(tmp_path: Path) -> None:
    root = layouts.write_cub(tmp_path / "CUB_200_2011")
    spec = {"images": root, "layout": "cub200", "taxonomy": tmp_path / "taxonomy.json"}
    with pytest.raises(ConfigError) as error:
        load(**spec)
    message = str(error.value)
    assert "2 of 3 classes match no leaf" in message
    assert "'023.Brandt_Cormorant' in " in message
    assert 'did you mean "Brandt\'s Cormorant"' in message
    aliases = tmp_path / "aliases.csv"
    report_matches(DatasetSpec(**spec)).write_aliases(aliases)
    assert aliases.read_text().splitlines() == [
        "class,leaf,candidates",
        "023.Brandt_Cormorant,,Brandt's Cormorant",
        "141.Artic_Tern,,Arctic Tern",
    ]
    text = aliases.read_text().replace("Cormorant,,", "Cormorant,Brandt's Cormorant,")
    aliases.write_text(text.replace("Tern,,", "Tern,-,"))
    first, second, third, _ = layouts.CUB_IMAGES.values()
    cormorant = "Suliformes/Phalacrocoracidae/Brandt's Cormorant"
    albatross = "Procellariiformes/Diomedeidae/Black-footed Albatross"
    assert leaves(load(**spec, aliases=aliases)) == {
        first: albatross,
        second: albatross,
        third: cormorant,
    }
    assert leaves(load(**spec, aliases=aliases, split="train")) == {
        second: albatross,
        third: cormorant,
    }
    assert leaves(load(**spec, unmatched="skip", split="test")) == {first: albatross}


def test_all_of_cub_matches_its_published_taxonomy_but_for_17_classes(
    tmp_path: Path, shared_data: Path
) -> None:
    """Of the real names of all classes, in the folders that the published annotations name."""
    rows = (shared_data / "annotations/CUB200_with_random_choice.jsonl").read_text().splitlines()
    folders = sorted({Path(json.loads(row)["image"]).parent.name for row in rows})
    for folder in folders:
        layouts.write_files(tmp_path / "images", {f"{folder}/a.jpg": b""})
    taxonomy = shared_data / "taxonomies/hierarchy_CUB200.json"
    report = report_matches(DatasetSpec(images=tmp_path / "images", taxonomy=taxonomy))
    assert report.num_classes_by_step == {"leading number": 183, "unmatched": 17}
    assert len(report.leaves_without_class) == 17
    assert all(report.candidates[match.label] for match in report.unmatched)


@pytest.mark.parametrize("with_json", [True, False])
def test_inat21_has_its_own_taxonomy_with_or_without_its_json(
    tmp_path: Path, with_json: bool
) -> None:
    root = layouts.write_inat21(tmp_path / "inat21", with_json=with_json)
    dataset = load(images=root, layout="inat21", split="val")
    assert len(dataset.samples) == 6
    for sample in dataset.samples:
        assert sample.leaf is not None
        ranks = [node.rank for node in dataset.taxonomy.path(sample.leaf)]
        assert ranks == ["kingdom", "phylum", "class", "order", "family", "genus", "species"]
        assert sample.leaf.name.split()[-1] in sample.id
        assert sample.image.path.is_file()


def test_inat21_without_the_split_that_is_asked_for_is_refused(tmp_path: Path) -> None:
    root = layouts.write_inat21(tmp_path / "inat21")
    with pytest.raises(ConfigError, match=r"neither train\.json nor a folder train in it"):
        load(images=root, layout="inat21", split="train")


def test_inat21_is_enough_without_its_images(tmp_path: Path) -> None:
    root = layouts.write_inat21(tmp_path / "inat21", with_images=False)
    dataset = Dataset.load("d", DatasetSpec(images=root, layout="inat21", split="val"))
    assert [sample.leaf.name for sample in dataset.samples if sample.leaf][::2] == [
        *layouts.INAT_SPECIES
    ]
    with pytest.raises(SampleError, match="no such image"):
        read_image(dataset.samples[0].image)


def test_inat21_takes_the_part_that_another_taxonomy_has(tmp_path: Path) -> None:
    root = layouts.write_inat21(tmp_path / "inat21")
    animals = {n: ["Animalia", "Corvus", n] for n in ("Corvus corax", "Corvus corone")}
    (tmp_path / "animals.json").write_text(json.dumps(animals))
    spec = {"images": root, "layout": "inat21", "split": "val"}
    with pytest.raises(ConfigError, match=r"no leaf '00002_Plantae_.*_alba' in .*animals\.json"):
        load(**spec, taxonomy=tmp_path / "animals.json")
    dataset = load(**spec, taxonomy=tmp_path / "animals.json", unmatched="skip")
    assert {sample.leaf.name for sample in dataset.samples if sample.leaf} == set(animals)


def test_folders_that_are_no_classes_hold_images_without_labels(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = ["2024/1.jpg", "2025/2.jpg", "crow/3.jpg", "other/4.jpg"]
    layouts.write_files(tmp_path / "photos", {path: layouts.jpeg() for path in paths})
    (tmp_path / "t.json").write_text('{"crow": ["bird", "crow"], "gull": ["bird", "gull"]}')
    (tmp_path / "aliases.csv").write_text("class,leaf\nother,-\n")
    spec = {
        "images": tmp_path / "photos",
        "taxonomy": tmp_path / "t.json",
        "aliases": tmp_path / "aliases.csv",
        "options": "children",
    }
    with pytest.raises(ConfigError, match=r"2 of 4 classes .*unmatched: no_label takes"):
        load(**spec)
    samples = load(**spec, unmatched="no_label").samples
    assert {each.id: each.leaf and each.leaf.name for each in samples} == {
        "2024/1.jpg": None,
        "2025/2.jpg": None,
        "crow/3.jpg": "crow",
    }
    assert "2 images of 2 classes without a leaf are taken without a label: 2024, 2025" in (
        caplog.text
    )
    assert "1 images of 1 classes without a leaf are left out: other" in caplog.text
    (tmp_path / "photos/2025/2.jpg").unlink()
    with pytest.raises(ConfigError, match=r"'2024' .*\(unmatched: no_label takes"):
        load(**spec)


def test_food101_is_read_by_its_lists(tmp_path: Path) -> None:
    root = layouts.write_food101(tmp_path / "food-101")
    spec = {"images": root, "layout": "food101", "taxonomy": tmp_path / "food.json"}
    train, test = (load(**spec, split=split) for split in ("train", "test"))
    assert leaves(train)["caesar_salad/1001.jpg"] == "food/appetizers/caesar salad"
    assert (len(train.samples), len(test.samples)) == (6, 3)
    (root / "meta/train.json").unlink()  # the list as text says the same
    assert leaves(load(**spec, split="train")) == leaves(train)
    with pytest.raises(ConfigError, match="split: there is no 'val'; known: train, test"):
        load(**spec, split="val")


def test_imagenet_is_read_by_synsets_in_folders_and_in_flat_files(tmp_path: Path) -> None:
    root = layouts.write_imagenet(tmp_path / "imagenet")
    spec = {"images": root, "layout": "imagenet", "taxonomy": root / "taxonomy.json"}
    assert leaves(load(**spec, split="train")) == {
        f"{synset}/{synset}_{number}.JPEG": f"animal/fish/{name}"
        for synset, name in (("n01440764", "tench"), ("n01443537", "goldfish"))
        for number in (18, 36)
    }
    assert leaves(load(**spec, split="val")) == {
        "ILSVRC2012_val_00000001.JPEG": "animal/fish/goldfish",
        "ILSVRC2012_val_00000002.JPEG": "animal/fish/tench",
    }
    flat = {"n01440764_10026.JPEG", "ILSVRC2012_val_00000009_n01443537.JPEG"}
    layouts.write_files(root / "flat", dict.fromkeys(flat, layouts.jpeg()))
    found = leaves(load(**spec | {"images": root / "flat"}))
    assert {name: leaf and leaf.rpartition("/")[2] for name, leaf in found.items()} == {
        "n01440764_10026.JPEG": "tench",
        "ILSVRC2012_val_00000009_n01443537.JPEG": "goldfish",
    }


def test_two_synsets_of_one_name_are_not_taken_for_one_class(tmp_path: Path) -> None:
    """As the bird and the machine that are both called crane."""
    layouts.write_files(
        tmp_path,
        {
            "synset_words.txt": "n02012849 crane\nn03126707 crane\n",
            "t.json": '{"crane": ["animal", "bird", "crane"], "cock": ["animal", "bird", "cock"]}',
            "images/n02012849/1.JPEG": layouts.jpeg(),
            "images/n03126707/1.JPEG": layouts.jpeg(),
        },
    )
    spec = {"images": tmp_path / "images", "layout": "imagenet", "taxonomy": tmp_path / "t.json"}
    with pytest.raises(ConfigError, match=r"'n02012849' .* and 'n03126707' .* both match the leaf"):
        load(**spec, unmatched="skip")
    (tmp_path / "aliases.csv").write_text("class,leaf\nn02012849,crane\nn03126707,-\n")
    found = leaves(load(**spec, aliases=tmp_path / "aliases.csv"))
    assert found == {"n02012849/1.JPEG": "animal/bird/crane"}


def test_aircraft_has_manufacturers_and_families(tmp_path: Path) -> None:
    root = layouts.write_aircraft(tmp_path / "fgvc-aircraft-2013b")
    train = load(images=root, layout="aircraft", split="train")
    assert leaves(train) == {
        "1025794.jpg": "Boeing/Boeing 707/707-320",
        "0983230.jpg": "McDonnell Douglas/F%2FA-18/F%2FA-18",
    }
    test = load(images=root, layout="aircraft", split="test")
    assert train.taxonomy.digest() == test.taxonomy.digest()


def test_cifar100_is_read_from_its_binary_version(tmp_path: Path) -> None:
    root = layouts.write_cifar100(tmp_path / "cifar-100-binary")
    dataset = load(images=root, layout="cifar100", split="train")
    assert leaves(dataset) == {
        "train/00000": "fruit/apple",
        "train/00001": "fish/aquarium_fish",
        "train/00002": "mammal/beaver",
    }
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), np.uint8)[1]
    shown = np.asarray(read_image(dataset.samples[1].image))
    assert np.array_equal(shown, pixels.transpose(1, 2, 0))


def test_lists_take_the_names_of_their_numbers_from_a_table(tmp_path: Path) -> None:
    root = layouts.write_grocery(tmp_path / "grocery")
    dataset = load(table=root / "train.txt", layout="list")
    path = "train/Fruit/Apple/Pink-Lady/Pink-Lady_001.jpg"
    assert leaves(dataset)[path] == "Apple/Pink-Lady"
    (tmp_path / "t.json").write_text('{"pink lady": ["fruit", "pink lady"]}')
    other = load(
        table=root / "train.txt", layout="list", taxonomy=tmp_path / "t.json", unmatched="skip"
    )
    assert leaves(other) == {path: "fruit/pink lady"}


def test_lists_of_stanford_online_products_have_a_header(tmp_path: Path) -> None:
    root = layouts.write_products(tmp_path / "Stanford_Online_Products")
    assert leaves(load(table=root / "Ebay_train.txt", layout="list")) == {
        "bicycle_final/1_0.JPG": "bicycle/class 1",
        "bicycle_final/1_1.JPG": "bicycle/class 1",
        "cabinet_final/9.JPG": "cabinet/class 2",
    }


def test_real_lists_of_groceries_load(shared_data: Path) -> None:
    root = shared_data / "grocery"
    spec = DatasetSpec(table=root / "train.txt", layout="list")
    dataset = Dataset.load("train", spec)
    assert len(dataset.taxonomy.leaf_ids) == 81
    assert read_image(dataset.samples[0].image).width > 100


@pytest.mark.parametrize("write", [layouts.write_hub_parquet, layouts.write_saved_dataset])
def test_datasets_of_the_hub_keep_their_images_and_name_their_classes(
    tmp_path: Path, write: Any
) -> None:
    root = write(tmp_path / "pets")
    spec = {"images": root, "layout": "huggingface", "taxonomy": tmp_path / "pets.json"}
    dataset = load(**spec, split="test")
    assert list(leaves(dataset).values()) == [
        "cat/siamese",
        "cat/abyssinian",
        "dog/beagle",
    ]
    with pytest.raises(ConfigError, match="split: name one of test, train"):
        load(**spec)
    with pytest.raises(ConfigError, match="no split 'tset'"):
        load(**spec, split="tset")
    with pytest.raises(ConfigError, match="no column 'lable'; did you mean label"):
        load(**spec, split="test", leaf_column="lable")


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (("data/train.parquet", "data/test.parquet"), None),
        (("default/train/0000.parquet", "default/test/0000.parquet"), None),
        (("train-00000-of-00001-ab12.parquet", "test-00000-of-00001-cd34.parquet"), None),
        (("a/train.parquet", "b/train.parquet"), "the split 'train' is in several folders"),
        (("notes/readme.md",), "no Parquet or Arrow file"),
    ],
)
def test_splits_of_the_hub_are_told_by_file_or_folder(
    tmp_path: Path, names: tuple[str, ...], problem: str | None
) -> None:
    root = layouts.write_hub_parquet(tmp_path / "pets")
    content = (root / "data/train-00000-of-00001.parquet").read_bytes()
    other = layouts.write_files(tmp_path / "other", dict.fromkeys(names, content))
    spec = {"layout": "huggingface", "split": "train", "taxonomy": tmp_path / "pets.json"}
    if problem is None:
        assert len(load(images=other, **spec).samples) == 3
    else:
        with pytest.raises(ConfigError, match=problem):
            load(images=other, **spec)


@pytest.mark.parametrize("name", ["a.tar", "train-0.parquet"])
def test_a_pipe_among_the_files_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    layout = "webdataset" if name.endswith("tar") else "huggingface"
    (tmp_path / "t.json").write_text(json.dumps(TABLE_PATHS))
    with pytest.raises(ConfigError, match="not a regular file"):
        load(images=tmp_path, layout=layout, taxonomy=tmp_path / "t.json")


def test_coarse_and_fine_columns_of_a_parquet_file_are_a_taxonomy(tmp_path: Path) -> None:
    """As CIFAR-100 on the Hub, whose image column is called img."""
    import datasets

    features = datasets.Features(
        {
            "img": datasets.Image(),
            "fine_label": datasets.ClassLabel(names=["apple", "beaver"]),
            "coarse_label": datasets.ClassLabel(names=["fruit", "mammal"]),
        }
    )
    rows = {
        "img": [{"bytes": layouts.jpeg(), "path": None}] * 2,
        "fine_label": [1, 0],
        "coarse_label": [1, 0],
    }
    path = tmp_path / "train.parquet"
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(path))
    dataset = load(
        images=path,
        layout="huggingface",
        leaf_column="fine_label",
        level_names=("coarse_label", "fine_label"),
    )
    assert [*leaves(dataset).values()] == ["mammal/beaver", "fruit/apple"]


def test_webdatasets_are_read_inside_their_tars(tmp_path: Path) -> None:
    root = layouts.write_webdataset(tmp_path / "shards")
    spec = {"images": root, "layout": "webdataset", "taxonomy": tmp_path / "pets.json"}
    dataset = load(**spec)
    assert leaves(dataset)["pets-train-000001.tar/sample000004"] == "dog/beagle"
    assert len(dataset.samples) == 6
    (root / "classnames.txt").unlink()
    with pytest.raises(ConfigError, match="3 of 3 classes match no leaf"):
        load(**spec)
    (root / "pets-train-000000.tar").rename(root / "pets-train-000000.tar.gz")
    with pytest.raises(ConfigError, match=r"tar\.gz: a compressed tar has no offsets"):
        load(**spec)


def test_a_damaged_tar_is_refused(tmp_path: Path) -> None:
    root = layouts.write_webdataset(tmp_path / "shards")
    content = (root / "pets-train-000000.tar").read_bytes()
    (root / "pets-train-000000.tar").write_bytes(content[:2000])
    with pytest.raises(ConfigError, match=r"pets-train-000000\.tar: not a tar, or a damaged one"):
        load(images=root, layout="webdataset", taxonomy=tmp_path / "pets.json")


TABLE_PATHS = {"crow": ["bird", "crow"], "owl": ["bird", "owl"]}


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    layouts.write_files(tmp_path, {"a.jpg": layouts.jpeg(), "t.json": json.dumps(TABLE_PATHS)})
    return tmp_path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.tsv", "image\tlabel\na.jpg\tcrow\n"),
        ("t.csv", "image;label\na.jpg;crow\n"),
        ("t.csv", "\ufeffimage|label\r\na.jpg|crow\r\n"),
        ("t.ndjson", '{"image": "a.jpg", "label": "crow"}\n'),
        ("t.json", '[{"image": "a.jpg", "label": "crow"}]'),
    ],
)
def test_tables_of_any_delimiter_load(birds: Path, name: str, content: str) -> None:
    (birds / "tables").mkdir()
    (birds / "tables" / name).write_bytes(content.encode())
    spec = {"taxonomy": birds / "t.json", "image_root": birds}
    assert leaves(load(table=birds / "tables" / name, **spec)) == {"a.jpg": "bird/crow"}


def test_columns_of_a_table_may_be_its_taxonomy(birds: Path) -> None:
    (birds / "meta.csv").write_text(
        "image,order,family\na.jpg,owls,barn owls\nb.jpg,owls,true owls\n"
    )
    spec = DatasetSpec(
        table=birds / "meta.csv", level_names=("order", "family"), leaf_column="family"
    )
    assert [*leaves(Dataset.load("d", spec)).values()] == ["owls/barn owls", "owls/true owls"]


def test_a_mistyped_leaf_column_is_refused_and_none_is_said(
    birds: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (birds / "a.csv").write_text("image,species\na.jpg,crow\n")
    spec = {"table": birds / "a.csv", "taxonomy": birds / "t.json"}
    with pytest.raises(ConfigError, match="there is no column 'specis'; did you mean species"):
        load(**spec, leaf_column="specis")
    caplog.set_level("INFO")
    assert leaves(load(**spec)) == {"a.jpg": None}
    assert "no column 'label', so its samples have no labels" in caplog.text


HOSTILE = {
    "digits": '{"image": "b.jpg", "label": ' + "9" * 6000 + "}",
    "depth": '{"image": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "nul": '{"image": "b\\u0000.jpg", "label": "owl"}',
    "surrogate": '{"image": "b\\ud800.jpg", "label": "owl"}',
    "label": '{"image": "b.jpg", "label": "o\\udc00wl"}',
}


@pytest.mark.parametrize("row", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_row_is_set_aside_and_the_others_are_read(birds: Path, row: str) -> None:
    good = '{"image": "a.jpg", "label": "crow"}'
    (birds / "t.jsonl").write_text(f"{good}\n{row}\n")
    spec = DatasetSpec(table=birds / "t.jsonl", taxonomy=birds / "t.json")
    first, second = Dataset.load("d", spec).samples
    assert first.leaf is not None
    assert read_image(first.image).size == (24, 16)
    with pytest.raises(SampleError, match=r"cannot be parsed|holds a character that is no text"):
        read_image(second.image)
    second.id.encode()  # it is a text that can be stored


def test_a_row_of_parquet_that_is_no_text_is_set_aside(birds: Path) -> None:
    images = pa.array([b"a.jpg", b"caf\xe9.jpg"]).cast(pa.binary())
    column = pa.StringArray.from_buffers(2, images.buffers()[1], images.buffers()[2])
    pq.write_table(pa.table({"image": column, "label": ["crow", "owl"]}), birds / "t.parquet")
    spec = DatasetSpec(table=birds / "t.parquet", taxonomy=birds / "t.json")
    first, second = Dataset.load("d", spec).samples
    assert (first.id, second.id) == ("a.jpg", "caf\\udce9.jpg")
    with pytest.raises(SampleError, match="no text"):
        read_image(second.image)


def test_a_file_name_that_is_not_utf8_is_set_aside(birds: Path) -> None:
    folder = birds / "images/crow"
    folder.mkdir(parents=True)
    for name in (b"a.jpg", b"caf\xe9.jpg"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(layouts.jpeg())
    spec = DatasetSpec(images=birds / "images", taxonomy=birds / "t.json")
    first, second = Dataset.load("d", spec).samples
    assert first.leaf is not None
    assert second.id == "crow/caf\\udce9.jpg"
    with pytest.raises(SampleError, match="its name is not in UTF-8; rename it"):
        read_image(second.image)


SMALL_FILES: Mapping[str, tuple[Any, str, dict[str, Any]]] = {
    "cub": (layouts.write_cub, "images.txt", {"layout": "cub200"}),
    "cub labels": (layouts.write_cub, "image_class_labels.txt", {"layout": "cub200"}),
    "inat21": (layouts.write_inat21, "val.json", {"layout": "inat21", "split": "val"}),
    "food": (layouts.write_food101, "meta/train.json", {"layout": "food101", "split": "train"}),
    "food txt": (layouts.write_food101, "meta/labels.txt", {"layout": "food101", "split": "test"}),
    "imagenet": (
        layouts.write_imagenet,
        "LOC_val_solution.csv",
        {"layout": "imagenet", "split": "val"},
    ),
    "words": (layouts.write_imagenet, "LOC_synset_mapping.txt", {"layout": "imagenet"}),
    "aircraft": (
        layouts.write_aircraft,
        "data/images_family_train.txt",
        {"layout": "aircraft", "split": "train"},
    ),
    "cifar": (layouts.write_cifar100, "train.bin", {"layout": "cifar100", "split": "train"}),
    "cifar names": (
        layouts.write_cifar100,
        "fine_label_names.txt",
        {"layout": "cifar100", "split": "train"},
    ),
    "parquet": (
        layouts.write_hub_parquet,
        "data/train-00000-of-00001.parquet",
        {"layout": "huggingface", "split": "train"},
    ),
    "tar": (layouts.write_webdataset, "pets-train-000000.tar", {"layout": "webdataset"}),
}


@pytest.mark.parametrize("name", SMALL_FILES)
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_damaged_files_are_read_or_refused_on_one_line(
    tmp_path: Path, name: str, data: st.DataObject
) -> None:
    """Any bytes of a real file are replaced, removed or repeated: never a traceback."""
    write, file, spec = SMALL_FILES[name]
    root = tmp_path / "data"
    if not root.exists():
        write(root)
        (tmp_path / "t.json").write_text(json.dumps(TABLE_PATHS))
        (tmp_path / "good").write_bytes((root / file).read_bytes())
    good = (tmp_path / "good").read_bytes()
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(len(good), start + 40)))
    new = data.draw(
        st.one_of(st.binary(max_size=8), st.sampled_from([b"\0", b"\n", b"\r\n", b"\xff"]))
    )
    (root / file).write_bytes(good[:start] + new + good[end:])
    settings_ = {"taxonomy": tmp_path / "t.json", "unmatched": "skip", **spec}
    try:
        Dataset.load("d", DatasetSpec(images=root, **settings_))
    except ConfigError as error:
        assert "\n" not in str(error)  # noqa: PT017  a good file is no error


def test_a_line_of_a_hundred_megabytes_is_read_or_refused(birds: Path) -> None:
    path = birds / "t.jsonl"
    path.write_bytes(b'{"image": "' + b"x" * 100_000_000 + b'", "label": "owl"}\n')
    (sample,) = Dataset.load("d", DatasetSpec(table=path, taxonomy=birds / "t.json")).samples
    with pytest.raises(SampleError, match="cannot be read"):
        read_image(sample.image)


def test_members_with_hostile_names_are_set_aside(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps(TABLE_PATHS))
    (tmp_path / "s").mkdir()
    with tarfile.open(tmp_path / "s/a.tar", "w", errors="surrogateescape") as tar:
        for name in ("a.jpg", os.fsdecode(b"caf\xe9.jpg")):
            info = tarfile.TarInfo(name)
            info.size = len(layouts.jpeg())
            tar.addfile(info, io.BytesIO(layouts.jpeg()))
    spec = DatasetSpec(images=tmp_path / "s", layout="webdataset", taxonomy=tmp_path / "t.json")
    first, second = Dataset.load("d", spec).samples
    assert read_image(first.image).size == (24, 16)
    with pytest.raises(SampleError, match="not in UTF-8"):
        read_image(second.image)


TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".xlsx", ".csv.gz")
TABLE_PIECES = (
    *("image,label\n", "a.jpg,crow\n", '{"image": "a.jpg", ', '"label": "owl"}', "\n", "\r\n"),
    *("[", "]", "\0", "\ufeff", '"', ";", "\t", "\\ud800", "9" * 5000, "null", "PK\x03\x04"),
    "choices_level1,",
)


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.sampled_from(TABLE_SUFFIXES),
    st.one_of(
        st.binary(max_size=60),
        st.lists(st.sampled_from(TABLE_PIECES), max_size=12).map("".join).map(str.encode),
    ),
    st.sampled_from(["table", "list", "aliases"]),
)
def test_any_bytes_of_a_table_are_read_or_refused_on_one_line(
    birds: Path, suffix: str, content: bytes, use: str
) -> None:
    path = birds / f"fuzz{suffix}"
    path.write_bytes(content)
    spec: dict[str, Any] = {"table": path, "taxonomy": birds / "t.json"}
    if use == "list":
        spec["layout"] = "list"
    if use == "aliases":
        (birds / "good.csv").write_text("image,label\na.jpg,crow\n")
        spec |= {"table": birds / "good.csv", "aliases": path}
    try:
        for sample in Dataset.load("d", DatasetSpec(**spec)).samples:
            sample.id.encode()
    except ConfigError as error:
        assert "\n" not in str(error)  # noqa: PT017  a good file is no error
        assert str(birds) in str(error)  # noqa: PT017
