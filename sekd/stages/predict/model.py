"""``sekd.load``: a model in a program or a notebook, which predicts paths."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from sekd.data.image_objects import ImageLike, is_image_like, read_image_like
from sekd.data.image_refs import ImageRef
from sekd.data.path_predictions import FlatRows, PathPrediction
from sekd.data.samples import Sample
from sekd.data.shards import Quarantined
from sekd.data.taxonomy import Taxonomy
from sekd.errors import SampleError
from sekd.io.locations import Location, to_location
from sekd.models.adapters import CONFIG
from sekd.stages.predict.predictor import Predictor
from sekd.stages.predict.request import PredictionRequest, is_run
from sekd.stages.predict.setup import set_up
from sekd.stages.prepare import PreparedSample

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

_BATCHES_AHEAD = 4
"""Number of batches of images that are read before the model sees the first of them."""


class Model:
    """A model that is loaded and predicts; a context manager that frees it at the end.

    Attributes:
        taxonomy: whose paths are predicted.
        is_stepwise: it descends level by level; otherwise it names a path in a single pass.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self.taxonomy: Taxonomy = predictor.spec.taxonomy
        self.is_stepwise = predictor.spec.is_stepwise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def predict(
        self, images: ImageLike | Iterable[ImageLike], *, min_confidence: float = 0.0
    ) -> Predictions:
        """Predict the path of each image, as the result is read: some batches at a time.

            >>> from PIL import Image
            >>> square = Image.new("RGB", (56, 56), "red")
            >>> (prediction,) = model.predict(square, min_confidence=0.5)
            >>> prediction.error is None, len(prediction.levels)
            (True, 4)
            >>> for prediction in model.predict(["missing.jpg", square]):
            ...     print(prediction.image, prediction.error)
            missing.jpg no such image
            image 1 None
            >>> model.predict([square, square]).to_pandas()["image"].tolist()
            ['image 0', 'image 1']

        Args:
            images: one image or any number of them: paths, bytes of files, Pillow images, or arrays
                of uint8, [height, width] or [height, width, 3 or 4].
            min_confidence: probability down to which a path is accepted, 0 to 1.

        Returns:
            An iterator of :class:`~sekd.data.path_predictions.PathPrediction`, in the order of the
            images. An image that cannot be used has its reason in ``error``.
        """
        several: Iterable[Any] = [images] if is_image_like(images) else images  # type: ignore[list-item, assignment]
        found = self._predict(iter(several))
        rows = FlatRows.of(self.taxonomy, self._predictor.spec.num_paths)
        return Predictions((each.accept(min_confidence) for each in found), rows)

    def close(self) -> None:
        """Free the model."""
        self._predictor.close()

    def _predict(self, images: Iterator[ImageLike]) -> Iterator[PathPrediction]:
        # Each chunk ends before its results are given, so that several results may be read in turn.
        size = _BATCHES_AHEAD * self._predictor.spec.evaluate.runtime.batch_size
        numbers = count()
        with ThreadPoolExecutor() as threads:
            while chunk := list(islice(images, size)):
                prepared = list(threads.map(self._prepare, chunk, islice(numbers, len(chunk))))
                yield from list(self._predictor.predict_prepared(prepared))

    def _prepare(self, image: ImageLike, number: int) -> PreparedSample | Quarantined:
        name = str(image) if isinstance(image, (str, Path)) else f"image {number}"
        try:
            read = read_image_like(image, name, self._predictor.reading)
        except SampleError as error:
            return Quarantined(name, str(error).removeprefix(f"{name}: "))
        return PreparedSample(Sample(name, ImageRef(Path(name)), None), read.image, read.key, None)


class Predictions(Iterator[PathPrediction]):
    """Predictions that are made as they are read, once.

    Attributes:
        rows: makes a flat row of each prediction, for a table.
    """

    def __init__(self, predictions: Iterator[PathPrediction], rows: FlatRows) -> None:
        self._predictions, self.rows = predictions, rows

    def __next__(self) -> PathPrediction:
        return next(self._predictions)

    def to_arrow(self) -> pa.Table:
        """Return the rest as a table with a row for each image."""
        return pa.Table.from_pylist(list(map(self.rows.row, self)), self.rows.schema)

    def to_pandas(self) -> pd.DataFrame:
        """Return the rest as a frame of pandas, which must be installed."""
        return self.to_arrow().to_pandas()

    def to_polars(self) -> pl.DataFrame:
        """Return the rest as a frame of polars, which must be installed."""
        import polars as pl

        return pl.DataFrame(self.to_arrow())


def load_model_of(
    run_or_model: str | Location, settings: Mapping[str, Any], **request: Any
) -> Model:
    """Load a model; see :func:`sekd.load`.

    Args:
        settings: key of the config -> value.
        request: fields of :class:`~sekd.stages.predict.request.PredictionRequest`; texts may stand
            for paths.

    Raises:
        ConfigError: as :func:`~sekd.stages.predict.setup.set_up`.
    """
    for name in ("adapter", "taxonomy", "only", "exclude"):
        if request[name] is not None:
            request[name] = Path(request[name])
    overrides = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    location = to_location(run_or_model)
    if is_run(location):
        request["run"] = location
    elif (location / CONFIG).is_file() and request["adapter"] is None:
        request["adapter"] = location
    else:
        request["model"] = str(run_or_model)
    return Model(Predictor(set_up(PredictionRequest(overrides=overrides, **request))))
