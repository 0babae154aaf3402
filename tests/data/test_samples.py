"""Samples of folders and tables, and the questions they get."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sekd.config import DatasetSpec
from sekd.data.image_refs import ImageRef
from sekd.data.samples import (
    Dataset,
    Sample,
    load_samples,
    questions_of,
)
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError, SampleError

SHARED = Path(os.environ.get("SEKD_SHARED_DATA", Path(__file__).parents[3] / "shared/data"))

PATHS = {
    "Pizza": ["food", "main", "Pizza"],
    "Steak": ["food", "main", "Steak"],
    "custard/cream": ["food", "dessert", "custard/cream"],
    "100%25": ["food", "dessert", "100%25"],  # a plain name that looks quoted
    "sweet pie": ["food", "dessert", "pie"],
    "savoury pie": ["food", "main", "pie"],
}
FOOD = Taxonomy.from_paths(PATHS, source="food.json")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def load_folder(folder: Path, taxonomy: Taxonomy = FOOD) -> dict[str, str | None]:
    samples = load_samples(DatasetSpec(taxonomy=Path("food.json"), images=folder), taxonomy)
    assert all(sample.image == ImageRef(folder / sample.id) for sample in samples)
    return {sample.id: sample.leaf.name if sample.leaf else None for sample in samples}


def test_images_have_the_leaf_of_their_folder(tmp_path: Path) -> None:
    touch(tmp_path, "steak/b.JPeG", "steak/a.png", "steak/day/two/c.tif", "steak/day/.hidden/d.png")
    touch(tmp_path, "Pizza/1.webp", "Pizza/.2.png", "Pizza/notes.txt", ".cache/x.png", "README.md")
    touch(tmp_path, "custard%2Fcream/1.gif", "100%25/1.bmp", "papers/licence.pdf")
    found = load_folder(tmp_path)
    assert found == {
        "100%25/1.bmp": "100%25",
        "Pizza/1.webp": "Pizza",
        "custard%2Fcream/1.gif": "custard/cream",
        "steak/a.png": "Steak",
        "steak/b.JPeG": "Steak",
        "steak/day/two/c.tif": "Steak",
    }
    assert list(found) == sorted(found)


def test_samples_are_found_by_their_ids(tmp_path: Path) -> None:
    touch(tmp_path, "Pizza/1.png", "Pizza/2.png", "Steak/1.png")
    samples = load_samples(DatasetSpec(taxonomy=Path("food.json"), images=tmp_path), FOOD)
    first, second, third = samples
    assert samples.named(["Steak/1.png", "Pizza/1.png"]) == [third, first]
    assert samples.any_named(["Steak/1.png", "missing.png", "Pizza/2.png"]) == [second, third]
    with pytest.raises(LookupError, match=r"missing\.png"):
        samples.named(["Pizza/1.png", "missing.png"])


def test_files_that_are_no_images_are_counted_by_their_suffix(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "steak/a.JXL", "steak/b.heic", "steak/c.jfif", "steak/notes.txt", "steak/d.eps")
    touch(tmp_path, "list.TXT", "steak/Thumbs.db", "steak/._a.png", "steak/desktop.ini", "steak/x")
    assert sorted(load_folder(tmp_path)) == ["steak/a.JXL", "steak/b.heic", "steak/c.jfif"]
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}: skipped 4 files that are no images: 2 with .txt, 1 with .eps, "
        "1 with no suffix"
    ]


def test_folder_of_a_leaf_may_be_a_link(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/1.png", "images/Steak/2.png")
    (tmp_path / "images/Pizza").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert load_folder(tmp_path / "images") == {"Pizza/1.png": "Pizza", "Steak/2.png": "Steak"}


def test_folder_of_a_namesake_is_named_by_its_path(tmp_path: Path) -> None:
    taxonomy = Taxonomy.load(write_table(tmp_path / "t.csv", [*zip("ab", "xx", strict=True)]))
    touch(tmp_path, "images/a%2Fx/1.png")
    assert load_folder(tmp_path / "images", taxonomy) == {"a%2Fx/1.png": "x"}
    touch(tmp_path, "images/x/1.png")
    with pytest.raises(ConfigError, match=r"images/x: 'x' names 2 leaves.*write / as %2F"):
        load_folder(tmp_path / "images", taxonomy)


def test_folder_of_loose_images_has_no_labels(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a.jpg", "notes.txt", "empty/notes.txt")
    assert load_folder(tmp_path) == {"a.jpg": None, "b.jpg": None}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["Pizza/1.png", "b.png", "a.png"], r"/a\.png: lies beside the folders"),
        (
            ["Pizza/1.png", "Stake/1.png"],
            "/Stake: no leaf 'Stake' in food.json; did you mean 'Steak'",
        ),
        (["main/1.png"], "/main: no leaf 'main'"),  # an inner node
        (["food/1.png"], "/food: no leaf 'food'"),  # the root
        (["notes.txt", "Pizza/notes.txt"], "no image in it"),
    ],
)
def test_bad_folders_are_refused(tmp_path: Path, names: list[str], message: str) -> None:
    touch(tmp_path, *names)
    with pytest.raises(ConfigError, match=message):
        load_folder(tmp_path)


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing: cannot be read: No such file"):
        load_folder(tmp_path / "missing")


def write_table(path: Path, rows: Sequence[Any]) -> Path:
    """Write dicts (as the file's suffix says) or, headed by o and s, tuples as CSV."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", encoding="utf-8")
    else:
        rows = [row if isinstance(row, dict) else dict(zip("os", row, strict=True)) for row in rows]
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            for row in rows:
                lists = {k: json.dumps(v) for k, v in row.items() if isinstance(v, list)}
                writer.writerow(row | lists)
    return path


def load_table(table: Path, taxonomy: Taxonomy = FOOD, **settings: Any) -> list[Sample]:
    spec = DatasetSpec(taxonomy=Path("food.json"), table=table, **settings)
    return list(load_samples(spec, taxonomy))


SUFFIXES = (".csv", ".jsonl", ".parquet")
each_format = pytest.mark.parametrize("suffix", SUFFIXES)


@each_format
def test_settings_choose_the_columns_and_paths_of_a_table(tmp_path: Path, suffix: str) -> None:
    rows: list[dict[str, Any]] = [
        {"file": "/old/b/1.jpg", "dish": "pizza", "key": 7, "split": "test"},
        {"file": "/old/missing.jpg", "dish": None, "key": 8, "split": "test"},
        {"file": "not checked", "dish": "unknown", "key": 7, "split": "train"},
        {"file": "/old//abs/a.jpg", "dish": "main/pie", "key": 9, "split": "test"},
    ]
    table = write_table(tmp_path / f"t{suffix}", rows)
    settings: dict[str, Any] = {
        "image_column": "file",
        "leaf_column": "dish",
        "image_prefix": "/old/",
        "split": "test",
    }
    pizza, pie = FOOD.leaf("Pizza"), FOOD.leaf("savoury pie")
    with pytest.raises(ConfigError, match="no leaf 'main/pie'"):  # ids begin with the root
        load_table(table, **settings)
    rows[3]["dish"] = pie.id
    write_table(table, rows)
    assert load_table(table, **settings) == [
        Sample("b/1.jpg", ImageRef(tmp_path / "b/1.jpg"), pizza),
        Sample("missing.jpg", ImageRef(tmp_path / "missing.jpg"), None),
        Sample("/abs/a.jpg", ImageRef(Path("/abs/a.jpg")), pie),
    ]
    first, *_ = load_table(table, **settings, image_root=Path("there"), id_column="key")
    assert first == Sample("7", ImageRef(Path("there/b/1.jpg")), pizza)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "image,label\n a.jpg , Pizza \n"),
        ("t.jsonl", '{"image":"a.jpg","label":"pizza "}'),
    ],
)
def test_byte_order_marks_and_spaces_around_cells_are_dropped(
    tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / name).write_text("\ufeff" + text, encoding="utf-8")
    assert load_table(tmp_path / name) == [
        Sample("a.jpg", ImageRef(tmp_path / "a.jpg"), FOOD.leaf("Pizza"))
    ]


def test_table_without_label_column_is_unlabelled(tmp_path: Path) -> None:
    (sample,) = load_table(write_table(tmp_path / "t.csv", [{"image": "a.jpg"}]))
    assert sample == Sample("a.jpg", ImageRef(tmp_path / "a.jpg"), None)


@each_format
@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        ([{"img": "a", "label": ""}], {}, "no column 'image'; there are img, label"),
        ([{"image": "a"}, {"image": ""}], {}, "{second}: the column 'image' is empty"),
        ([{"image": "a"}, {"image": None}], {}, "{second}: the column 'image' is empty"),
        ([{"image": "a", "label": "piza"}], {}, "{first}: no leaf 'piza'.*did you mean 'Pizza'"),
        (
            [{"image": "x/a"}, {"image": "y/a"}],
            {"image_prefix": "x/"},
            "{second}: expected the image_prefix 'x/' and a path, got 'y/a'",
        ),
        ([{"image": "x/"}], {"image_prefix": "x/"}, "{first}: expected the image_prefix"),
        ([{"image": "a"}] * 2, {}, "{second}: the sample id 'a' is already that of .*{first}"),
        ([{"image": "a"}], {"id_column": "id"}, "{first}: no column 'id'"),
        ([{"image": "a"}], {"split": "test"}, "{first}: no column 'split'"),
        (
            [{"image": "a", "split": "val"}, {"image": "b", "split": "train"}],
            {"split": "test"},
            r"no row of the split 'test', only of \['train', 'val'\]",
        ),
        (
            [{"image": "a", "level1": "main", "choices_level1": ["main"]}],
            {},
            "{first}: options without a label",
        ),
    ],
)
def test_bad_rows_are_refused_with_their_place(
    tmp_path: Path, suffix: str, rows: list[Any], settings: dict[str, Any], message: str
) -> None:
    table = write_table(tmp_path / f"t{suffix}", rows)
    offset = {".csv": 1, ".jsonl": 0, ".parquet": 0}[suffix]
    unit = "row" if suffix == ".parquet" else "line"
    places = [f"{table}, {unit} {number + offset}" for number in (1, 2)]
    with pytest.raises(
        ConfigError, match=message.format(first=places[0], second=places[1])
    ) as error:
        load_table(table, **settings)
    assert str(table) in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"image,label\na\n", "line 2: 1 cells under 2 columns"),
        ("t.csv", b"image,image\na,b\n", "line 1: two columns of one name"),
        ("t.csv", b'image\n"a\nb\nc\n', "not a CSV file"),
        ("t.csv", "image\nRüppell\n".encode("latin-1"), "not a CSV file in UTF-8"),
        ("t.csv", b"image\n", "no image in it"),
        ("t.csv", b"", "no image in it"),
        ("t.jsonl", b'{"image": "a"}\n{"image": \n', "line 2: not JSON"),
        ("t.jsonl", b'{"image": "\xff"}\n', "line 1: not JSON in UTF-8"),
        ("t.jsonl", b'{"image": "a"}\n\n["b"]\n', "line 3: expected an object, got list"),
        ("t.jsonl", b'{"image": {"bytes": ""}}', "line 1: image must be text, not dict"),
        ("t.jsonl", b'{"image": "a", "label": true}', "line 1: label must be text, not bool"),
        ("t.parquet", b"PAR1", "not a Parquet file"),
        ("t.json", b"[]", "no image in it"),
        ("t.doc", b"", "a table is one of .csv, .* not '.doc'"),
        ("missing.csv", None, "no such table"),
    ],
)
def test_bad_tables_are_refused(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message) as error:
        load_table(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)


DEEP = Taxonomy.from_paths(
    {
        "deep": ["top", *(f"n{level}" for level in range(2, 12)), "deep"],
        "flat": ["top", "flat"],
    }
)


@each_format
@pytest.mark.parametrize("with_root", [True, False])
def test_benchmark_row_brings_its_options_by_level_number(
    tmp_path: Path, suffix: str, with_root: bool
) -> None:
    names = [node.name.upper() for node in DEEP.path(DEEP.leaf("deep"))]
    names = ["Top", *names] if with_root else names
    deep, flat = {"image": "a", "label": "deep"}, {"image": "b", "label": "flat"}
    for level, name in sorted(enumerate(names, start=1), key=lambda item: str(item[0])):
        deep |= {f"level{level}": name, f"choices_level{level}": [name, "other"]}  # type: ignore[dict-item]
        flat |= {f"level{level}": None, f"choices_level{level}": None}  # type: ignore[dict-item]
    for level, name in enumerate(["top", "flat"] if with_root else ["flat"], start=1):
        flat |= {f"level{level}": name, f"choices_level{level}": [name]}  # type: ignore[dict-item]
    samples = load_table(write_table(tmp_path / f"t{suffix}", [deep, flat]), DEEP)
    scored = names[1:] if with_root else names
    assert [sample.choices for sample in samples] == [
        tuple((name, "other") for name in scored),
        (("flat",),),
    ]


GOOD_ROW = {
    "image": "a",
    "label": "pizza",
    "level1": "main",
    "choices_level1": ["dessert", "main"],
    "level2": "pizza",
    "choices_level2": ["pizza", "steak"],
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"level1": "dessert"}, "levels are dessert > pizza, but food.json has main > Pizza"),
        ({"level2": None}, "levels are main, but food.json has main > Pizza"),
        ({"choices_level2": []}, r"levels \[1, 2\] have names, but \[1\] options"),
        ({"choices_level2": "pizza"}, "choices_level2 must be a list as JSON"),
        ({"choices_level2": {"A": "pizza"}}, "choices_level2 must be a list of names"),
        ({"choices_level2": ["pizza", 3]}, "choices_level2 must be a list of names"),
    ],
)
def test_benchmark_row_that_does_not_fit_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    (sample,) = load_table(write_table(tmp_path / "t.jsonl", [GOOD_ROW]))
    assert sample.choices == (("dessert", "main"), ("pizza", "steak"))
    with pytest.raises(ConfigError, match=f"line 1.*{message}"):
        load_table(write_table(tmp_path / "t.jsonl", [GOOD_ROW | change]))


def make_dataset(tmp_path: Path, row: dict[str, Any], **settings: Any) -> Dataset:
    (tmp_path / "food.json").write_text(json.dumps(PATHS), encoding="utf-8")
    table = write_table(tmp_path / "t.jsonl", [row, {"image": "last"}])
    spec = DatasetSpec(taxonomy=tmp_path / "food.json", table=table, **settings)
    return Dataset.load("train", spec)


@pytest.mark.parametrize("distractors", ["random", "siblings", "given"])
def test_the_options_of_a_row_are_asked_whatever_the_distractors(
    tmp_path: Path, distractors: str
) -> None:
    dataset = make_dataset(tmp_path, GOOD_ROW, distractors=distractors)
    questions = questions_of(dataset, dataset.samples[0])
    assert questions is not None
    names = [[node.name for node in question.options] for question in questions]
    assert names == [["dessert", "main"], ["Pizza", "Steak"]]


def test_a_row_without_options_is_set_aside_where_they_are_to_be_given(tmp_path: Path) -> None:
    row = {"image": "a", "label": "pizza"}
    dataset = make_dataset(tmp_path, row, distractors="given")
    with pytest.raises(SampleError, match="a lacks a label or options, which `distractors: given`"):
        questions_of(dataset, dataset.samples[0])


def test_questions_follow_the_spec(tmp_path: Path) -> None:
    row = {"image": "a", "label": "pizza"}
    names = {}
    for settings in (
        {"distractors": "siblings", "num_options": 3},
        {"distractors": "random", "num_options": 6},
        {"distractors": "random", "num_options": 6, "seed": 1},
    ):
        dataset = make_dataset(tmp_path, row, **settings)
        questions = questions_of(dataset, dataset.samples[0])
        assert questions is not None
        names[str(settings)] = [node.name for node in questions[1].options]
    siblings, six, reseeded = names.values()
    assert set(siblings) == {"Pizza", "Steak", "pie"}
    assert len(six) == 5  # "pie" is in the taxonomy twice, and is shown once
    assert six != reseeded


def test_samples_without_label_need_a_descent(tmp_path: Path) -> None:
    row = {"image": "a", "label": ""}
    descended = make_dataset(tmp_path, row, options="children")
    assert questions_of(descended, descended.samples[0]) is None
    drawn = make_dataset(tmp_path, row)
    with pytest.raises(SampleError, match=r"a has no label .*`options: children` needs none"):
        questions_of(drawn, drawn.samples[0])


def test_published_cub_annotations_load_with_their_options() -> None:
    table = SHARED / "annotations/CUB200_with_random_choice.jsonl"
    if not table.is_file():
        pytest.skip(f"{table} is absent; SEKD_SHARED_DATA names its folder")
    spec = DatasetSpec(
        taxonomy=SHARED / "taxonomies/hierarchy_CUB200.json",
        level_names=("order", "family", "genus", "species"),
        table=table,
        image_prefix="/projectnb/ivc-ml/yuwentan/dataset/",
        image_root=Path("images"),
        split="test",
    )
    dataset = Dataset.load("cub", spec)
    assert len(dataset.samples) == 5794
    with table.open(encoding="utf-8") as file:
        for sample, row in zip(dataset.samples, map(json.loads, file), strict=True):
            assert row["image"] == spec.image_prefix + sample.id
            assert sample.image.path == Path("images") / sample.id
            questions = questions_of(dataset, sample)
            assert questions is not None
            assert [question.rank for question in questions] == list(spec.level_names)
            for question in questions:
                shown = [node.name.casefold() for node in question.options]
                assert shown == row[f"choices_level{question.level}"]
                assert question.truth is not None
                assert question.truth.name.casefold() == row[f"level{question.level}"]
            assert questions[-1].truth == dataset.taxonomy.leaf(row["label"])
