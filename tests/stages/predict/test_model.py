"""``sekd.load``: images of any kind, results as they are read, and examples that hold."""

from __future__ import annotations

import doctest
import io
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from PIL import Image

import sekd
from sekd.stages.predict import model as model_module
from sekd.stages.predict.model import Model


@pytest.fixture(scope="module")
def model(world: Path) -> Iterator[Model]:
    settings = {"evaluate.runtime.batch_size": 2}
    with sekd.load(world / "config.yaml", stepwise=False, settings=settings) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def photo(world: Path) -> Path:
    return next((world / "seen" / "images").rglob("*.png"))


@pytest.mark.parametrize("stepwise", [False, True])
def test_an_image_is_the_same_however_it_is_given(
    model: Model, world: Path, photo: Path, stepwise: bool
) -> None:
    # Two options a question: the children of a node are dealt into groups by the picture.
    settings = {"descent.max_options": 2}
    if stepwise:
        model = sekd.load(world / "config.yaml", stepwise=True, settings=settings)
    picture = Image.open(photo)
    given = [
        *(photo, str(photo), photo.read_bytes(), picture, picture.convert("RGBA")),
        *(np.asarray(picture.convert("RGB")), np.asarray(picture.convert("RGBA"))),
    ]
    predictions = list(model.predict(given))
    assert [each.image for each in predictions[:3]] == [str(photo), str(photo), "image 2"]
    first = predictions[0]
    for prediction in predictions:
        assert prediction.error is None
        assert [level.node for level in prediction.levels] == [level.node for level in first.levels]
        assert prediction.probability == pytest.approx(first.probability, rel=1e-3)


def test_a_picture_is_turned_upright_and_stays_as_it_was(model: Model, photo: Path) -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(photo).convert("RGB").transpose(Image.Transpose.ROTATE_90).save(
        buffer, "PNG", exif=exif
    )
    turned = Image.open(buffer)
    upright, plain = model.predict([turned, photo])
    assert [level.node for level in upright.levels] == [level.node for level in plain.levels]
    assert upright.probability == pytest.approx(plain.probability, rel=1e-3)
    assert turned.getexif()[0x0112] == 6


def test_what_is_no_image_has_its_reason(model: Model, photo: Path, tmp_path: Path) -> None:
    given = [b"no image", np.zeros((3, 8, 8), np.uint8), np.zeros((8, 8, 3)), 7, tmp_path, photo]
    reasons = [each.error for each in model.predict(given)]
    assert reasons[0] == "not an image"
    assert reasons[1] is not None
    assert reasons[1].startswith("expected an array of uint8, [height, width] or [height, width, 3")
    assert reasons[1].endswith("got uint8 [3, 8, 8]")
    assert str(reasons[2]).endswith("got float64 [8, 8, 3]")
    assert str(reasons[3]).endswith("got int")
    assert "a directory, not a regular file" in str(reasons[4])
    assert reasons[5] is None


def test_results_come_while_images_are_still_drawn(model: Model, photo: Path) -> None:
    drawn = []

    def endless() -> Iterator[Path]:
        while True:
            drawn.append(photo)
            yield photo

    predictions = model.predict(endless())
    assert next(predictions).error is None
    assert len(drawn) <= 8
    # Another result may be read in between.
    assert len(list(model.predict([photo, photo]))) == 2
    assert next(predictions).error is None


def test_frames_are_there_on_request(model: Model, photo: Path) -> None:
    frame = model.predict([photo, b"no image"], min_confidence=0.2).to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert frame["image"].tolist() == [str(photo), "image 1"]
    assert {"order", "order_probability", "accepted_rank", "stopped"} <= set(frame.columns)
    assert frame["error"].tolist()[1] == "not an image"
    other = model.predict(photo).to_polars()
    assert isinstance(other, pl.DataFrame)
    assert other["leaf"].to_list() == [frame["leaf"][0]]


def test_the_examples_hold(model: Model) -> None:
    tests = doctest.DocTestFinder().find(Model, globs={"model": model})
    results = [doctest.DocTestRunner().run(test) for test in tests]
    assert sum(result.attempted for result in results) >= 5
    assert not any(result.failed for result in results)


def test_the_example_of_loading_holds(
    world: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "birds").mkdir(parents=True)
    shutil.copy(world / "config.yaml", "runs/birds/evaluate.config.yaml")
    for name in ("a.jpg", "b.jpg"):
        shutil.copy(photo, name)
    (test,) = doctest.DocTestFinder().find(sekd.load, globs={})
    result = doctest.DocTestRunner().run(test)
    assert (result.failed, result.attempted) == (0, 4)


def test_the_package_imports_without_a_model_library() -> None:
    code = (
        "import sys, sekd; sekd.load; "
        "print([name for name in ('torch', 'transformers', 'numpy', 'pyarrow') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_adapter_a_run_and_a_model_are_told_apart(
    adapter: Path, world: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(model_module, "set_up", asked.append)
    monkeypatch.setattr(model_module, "Predictor", lambda spec: spec)
    monkeypatch.setattr(model_module, "Model", lambda predictor: predictor)
    sekd.load(str(adapter))
    sekd.load(world / "config.yaml", adapter=str(adapter), settings={"evaluate.engine": "vllm"})
    sekd.load("org/name", taxonomy="birds.csv")
    assert [request.adapter for request in asked] == [adapter, adapter, None]
    assert [request.run for request in asked] == [None, world / "config.yaml", None]
    assert [request.model for request in asked] == [None, None, "org/name"]
    assert asked[1].overrides == ['evaluate.engine="vllm"']
    assert asked[2].taxonomy == Path("birds.csv")
