"""The images that a person names: every one once, whatever holds it, and nothing silent."""

from __future__ import annotations

import os
import tarfile
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sekd.data.image_inputs import list_images, samples_of
from sekd.data.images import read_image
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError, SampleError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with images at several depths; the current one is above it."""
    monkeypatch.chdir(tmp_path)
    photos = tmp_path / "photos"
    for number, name in enumerate(["a.png", "in/b.PNG", "in/deep/c.png", "in/IMG.1.png"]):
        path = photos / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number * 60, 0, 0)).save(path, "PNG")
    (photos / "notes.doc").write_text("no image", "utf-8")
    return photos


def names_of(taxonomy: Taxonomy, *inputs: str, **options: object) -> list[str]:
    """Gather images, all of which can be read; return their names."""
    samples = samples_of(list_images(inputs, **options), taxonomy)
    for sample in samples:
        assert read_image(sample.image).size == (8, 8)
        assert sample.leaf is None
    return samples.ids.to_pylist()


ALL = ["photos/a.png", "photos/in/IMG.1.png", "photos/in/b.PNG", "photos/in/deep/c.png"]


def test_a_folder_is_searched_at_any_depth(
    folder: Path, taxonomy: Taxonomy, caplog: pytest.LogCaptureFixture
) -> None:
    assert names_of(taxonomy, "photos") == ALL
    assert names_of(taxonomy, "photos/") == ALL
    assert "skipped 1 files that are no images: 1 with .doc" in caplog.text
    assert names_of(taxonomy, str(folder))[0] == f"{folder}/a.png"


def test_an_image_that_is_named_twice_is_taken_once(
    folder: Path, taxonomy: Taxonomy, caplog: pytest.LogCaptureFixture
) -> None:
    inputs = ["photos/in/b.PNG", "photos", "./photos/a.png", str(folder / "a.png")]
    assert names_of(taxonomy, *inputs) == ["photos/in/b.PNG", *ALL[:2], ALL[3]]
    assert "3 images are named more than once; each is taken once" in caplog.text


def test_lists_name_a_path_in_each_line(folder: Path, taxonomy: Taxonomy) -> None:
    lines = ["photos/a.png\n", "\n", "photos/in/b.PNG\r\n"]
    expected = ["photos/a.png", "photos/in/b.PNG"]
    assert names_of(taxonomy, "-", standard_input=lines) == expected
    # Those of a file start at its own folder.
    (folder / "list.txt").write_text("a.png\nin/b.PNG\n", "utf-8")
    assert names_of(taxonomy, "photos/list.txt") == ["a.png", "in/b.PNG"]


def test_a_pipe_is_a_list_from_here(folder: Path, taxonomy: Taxonomy) -> None:
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("photos/a.png\n",))
    writer.start()
    found = names_of(taxonomy, "photos/pipe")
    writer.join()
    assert found == ["photos/a.png"]


def test_a_tar_gives_all_its_images(folder: Path, taxonomy: Taxonomy) -> None:
    with tarfile.open("photos.tar", "w") as tar:
        tar.add("photos/in", "in")
        tar.add("photos/in/IMG.1.png", "in/IMG.2.png")  # one sample to WebDataset, two images
        tar.add("photos/notes.doc")
    names = names_of(taxonomy, "photos.tar")
    assert sorted(names) == [
        f"photos.tar/in/{name}" for name in ("IMG.1.png", "IMG.2.png", "b.PNG", "deep/c.png")
    ]
    Path("broken.tar").write_bytes(Path("photos.tar").read_bytes()[:700])
    with pytest.raises(ConfigError, match=r"broken\.tar: not a tar, or a damaged one"):
        names_of(taxonomy, "broken.tar")
    with pytest.raises(ConfigError, match="decompress it"):
        names_of(taxonomy, "photos.tar.gz")


@pytest.mark.parametrize("column", ["image", "file_name", "picture"])
def test_a_table_has_a_row_for_each_image(
    folder: Path, taxonomy: Taxonomy, column: str, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "table.csv").write_text(f"id,{column}\n1,a.png\n2,in/b.PNG\n", "utf-8")
    caplog.set_level("INFO", logger="sekd")
    if column == "picture":
        with pytest.raises(ConfigError, match=r"--image-column"):
            names_of(taxonomy, "photos/table.csv")
    given = column if column == "picture" else None
    names = names_of(taxonomy, "photos/table.csv", image_column=given)
    assert names == ["a.png", "in/b.PNG"]
    assert ("images are read from the column" in caplog.text) == (column == "file_name")
    assert "no column" not in caplog.text


def test_parquet_may_hold_the_images_themselves(folder: Path, taxonomy: Taxonomy) -> None:
    cells = [
        {"bytes": (folder / name).read_bytes(), "path": name} for name in ("a.png", "in/b.PNG")
    ]
    pq.write_table(pa.table({"image": cells, "label": [0, 1]}), "train.parquet")
    assert names_of(taxonomy, "train.parquet") == ["train.parquet/0", "train.parquet/1"]


def test_what_is_missing_is_an_image_that_cannot_be_used(folder: Path, taxonomy: Taxonomy) -> None:
    lines = ["absent.jpg\n", "photos\n", "https://example.org/a.jpg\n", "photos/\udcff.png\n"]
    samples = samples_of(list_images(["gone.png", "-"], standard_input=lines), taxonomy)
    reasons = ["no such image", "no such image", "a directory", "an address", "not in UTF-8"]
    for sample, reason in zip(samples, reasons, strict=True):
        with pytest.raises(SampleError, match=reason):
            read_image(sample.image)


def test_what_names_no_image_is_refused(folder: Path, taxonomy: Taxonomy) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(ConfigError, match="photos/empty: no image below this folder"):
        list_images(["photos/empty"])
    assert len(samples_of(list_images(["photos/empty", "photos"]), taxonomy)) == 4
    with pytest.raises(ConfigError, match="absent: no such file or folder"):
        list_images(["absent"])
    with pytest.raises(ConfigError, match="-: no image in it"):
        list_images(["-"])


def test_a_file_without_a_suffix_may_be_an_image(folder: Path, taxonomy: Taxonomy) -> None:
    (folder / "a.png").rename(folder / "4f2a")
    assert names_of(taxonomy, "photos/4f2a") == ["photos/4f2a"]


def test_real_photographs_are_found(shared_data: Path, taxonomy: Taxonomy) -> None:
    root = shared_data / "grocery"
    samples = samples_of(list_images([str(root / "val")]), taxonomy)
    assert len(samples) == len(list((root / "val").rglob("*.jpg")))
    assert read_image(samples[0].image).mode == "RGB"
