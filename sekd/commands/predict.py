"""``sekd predict``: a path of the taxonomy for each image."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sekd.commands.config_command import fail, setting_option, short_overrides
from sekd.commands.output import print_table

if TYPE_CHECKING:
    from sekd.data.path_predictions import FlatRows, PathPrediction

logger = logging.getLogger(__name__)

_PATH = click.Path(path_type=Path)
_NUM_SHOWN = 100
"""Number of images that the terminal shows."""
_NUM_FAILURES = 20
"""Number of failures that the log names; the output has all."""
_SHARDS = "only for going on; remove it when you have all"


@click.command("predict")
@click.argument("images", nargs=-1, required=True, type=click.Path())
@click.option("--taxonomy", type=_PATH, help="Taxonomy of any format; the run's, if not given.")
@click.option("--level-names", default="", help="Ranks of its levels: kingdom,phylum,...")
@click.option(
    "--run",
    metavar="RUN",
    type=click.Path(),
    help="A run's directory or config: model, taxonomy and all.",
)
@click.option("--model", metavar="MODEL", help="A model's directory or Hugging Face id.")
@click.option("--adapter", type=_PATH, help="A PEFT adapter; one of sekd knows its model.")
@click.option("--output", "-o", type=_PATH, help="Write a .csv, .tsv, .jsonl, .parquet or .xlsx.")
@click.option("--html", type=_PATH, help="Write a page that shows images, paths and bars.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "jsonl"]),
    default="table",
    help="What is printed without --output.  [default: table]",
)
@click.option(
    "--stepwise/--single-pass",
    "is_stepwise",
    default=None,
    help="Descend level by level, or name the path at once, if the model can.",
)
@click.option("--rank", "last_rank", metavar="RANK", help="Name paths down to this rank only.")
@click.option(
    "--top-k",
    "--k",
    "num_paths",
    type=click.IntRange(min=1),
    default=1,
    help="Number of most probable paths of each image.  [default: 1]",
)
@click.option(
    "--min-confidence",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="Accept a path down to the last rank with this probability.",
)
@click.option("--subtree", "subtrees", multiple=True, metavar="NODE", help="Only below this node.")
@click.option("--only", type=_PATH, help="List of names; nothing else is predicted.")
@click.option("--exclude", type=_PATH, help="List of names that are not predicted.")
@click.option("--image-column", metavar="NAME", help="Column of a table that holds the images.")
@setting_option("--engine", "evaluate.engine", help="transformers or vllm.")
@setting_option("--batch-size", "evaluate.runtime.batch_size", type=int, help="Images at a time.")
@click.option(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Change a setting of the config, e.g. descent.max_options=5.",
)
@click.option("--retry-failed", is_flag=True, help="Try shards again that used up their attempts.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a line for each image.")
@click.pass_context
def predict_command(context: click.Context, as_json: bool, **options: Any) -> None:
    """Find the path of each image in a taxonomy.

    IMAGES are files, folders, tars, tables with a row for each image, texts (.txt) with a path in
    each line, or - for such lines on standard input. A row of the output is an image: the name and
    the probability of the path at each rank, the deepest rank that is accepted, and why none below
    it is. An image that cannot be used is a row with the reason.

    With --output, more images than a shard has (256) are done in shards in the folder OUTPUT.run,
    so that the same command goes on where it was stopped. The page of --html is one file that
    needs no network; of very many images it shows some, and says so.

    \b
    Example:
        sekd predict photos --run runs/birds --output birds.csv --html birds.html
        sekd predict a.jpg b.jpg --adapter student --min-confidence 0.8
        sekd predict photos --run runs/birds --only species-of-ghana.txt
        find . -name '*.jpg' | sekd predict - --model PATH --taxonomy birds.csv
    """
    try:
        options["overrides"] = [*options["overrides"], *short_overrides(context)]
        _predict(as_json, **options)
    except BrokenPipeError:  # who reads the output has left: click ends in silence
        raise
    except Exception as error:  # noqa: BLE001  every error becomes one line and a code
        sys.exit(fail(error, as_json))


def _predict(
    as_json: bool,
    *,
    images: Sequence[str],
    output: Path | None,
    html: Path | None,
    form: str,
    min_confidence: float,
    image_column: str | None,
    retry_failed: bool,
    level_names: str,
    **request: Any,
) -> None:
    from sekd.data.image_inputs import list_images, samples_of
    from sekd.data.path_predictions import FlatRows
    from sekd.io.table_writers import write_rows
    from sekd.stages.predict.request import PredictionRequest, check_request

    _check_places(output, html, form)
    names = [name.strip() for name in level_names.split(",") if name.strip()]
    checked = check_request(PredictionRequest(**request, level_names=names))
    lines = map(os.fsdecode, sys.stdin.buffer)
    listed = list_images(images, image_column=image_column, standard_input=lines)

    # These import torch, which takes seconds: what is wrong above is said before.
    from sekd.stages.predict.page import write_page
    from sekd.stages.predict.run import predict_images
    from sekd.stages.predict.setup import set_up

    spec = set_up(checked)
    samples = samples_of(listed, spec.taxonomy)
    file = output or html
    directory = None if file is None else file.with_name(f"{file.name}.run")
    found = predict_images(
        spec, samples, directory, retry_failed=retry_failed, is_kept=html is not None
    )
    predictions = (prediction.accept(min_confidence) for prediction in found)
    rows = FlatRows.of(spec.taxonomy, spec.num_paths)
    if output is not None:
        summary = _Summary()
        write_rows(output, rows.schema, map(rows.row, summary.count(predictions)))
        summary.print(output, directory, as_json)
    else:
        _print_predictions(predictions, rows, "json" if as_json else form)
    if html is not None:
        write_page(html, spec, samples, found, images, min_confidence=min_confidence, table=output)
        logger.info("page: %s", html)
        if output is None and directory is not None and directory.exists():
            logger.info("shards: %s (%s)", directory, _SHARDS)


def _check_places(output: Path | None, html: Path | None, form: str) -> None:
    """Check that the files can be written; say what an output makes useless."""
    from sekd.io.table_writers import check_place, check_writable

    if html is not None:
        check_place(html)
    if output is not None:
        check_writable(output)
        if form != "table":
            logger.warning("--format %s: the suffix of --output says the format", form)


def _print_predictions(predictions: Iterator[PathPrediction], rows: FlatRows, form: str) -> None:
    """Print predictions as they come, or as a table when all are there."""
    from sekd.io.table_writers import text_writer

    if form == "table":
        _print_table(predictions)
    elif form == "json":
        for prediction in predictions:
            click.echo(json.dumps(prediction.to_json(), ensure_ascii=False))
    else:
        write = text_writer(sys.stdout, rows.schema, f".{form}")
        for prediction in predictions:
            write(rows.row(prediction))


def _print_table(predictions: Iterator[PathPrediction]) -> None:
    """Print a table of the first images, and say what is wrong with the others."""
    from sekd.report.predicted.table import predictions_table

    summary = _Summary()
    shown: list[PathPrediction] = []
    num_left_out = 0
    for prediction in summary.count(predictions):
        if prediction.error is not None:
            continue
        if len(shown) < _NUM_SHOWN:
            shown.append(prediction)
        else:
            num_left_out += 1
    if shown:
        print_table(predictions_table(shown, "Predictions"))
    if num_left_out:
        click.echo(f"and {num_left_out:,} more images; --output FILE writes all of them")
    click.echo(summary.text)


@dataclass
class _Summary:
    """Counts predictions as they pass.

    Attributes:
        num_accepted: rank -> number of images whose path is accepted down to it.
    """

    num_images: int = 0
    num_failed: int = 0
    num_accepted: Counter[str] = field(default_factory=Counter)

    def count(self, predictions: Iterable[PathPrediction]) -> Iterator[PathPrediction]:
        """Pass predictions on; log the first failures."""
        for prediction in predictions:
            self.num_images += 1
            if prediction.error is not None:
                self.num_failed += 1
                if self.num_failed <= _NUM_FAILURES:
                    logger.warning("%s: %s", prediction.image, prediction.error)
            elif prediction.accepted is not None:
                self.num_accepted[prediction.accepted.rank] += 1
            yield prediction

    @property
    def text(self) -> str:
        """The counts in words."""
        num_none = self.num_images - self.num_failed - self.num_accepted.total()
        ranks = (f"{count:,} down to {rank}" for rank, count in self.num_accepted.most_common())
        counts = [*ranks, *([f"{num_none:,} not at all"] if num_none else [])]
        counts += [f"{self.num_failed:,} failed"] if self.num_failed else []
        images = "image" if self.num_images == 1 else "images"
        return f"{self.num_images:,} {images}: {', '.join(counts)}"

    def print(self, output: Path, directory: Path | None, as_json: bool) -> None:
        """Print the counts, and where the predictions are."""
        run = str(directory) if directory is not None and directory.exists() else None
        if as_json:
            counts = {
                "num_images": self.num_images,
                "num_failed": self.num_failed,
                "num_accepted": dict(self.num_accepted),
            }
            click.echo(json.dumps({"predictions": str(output), "run": run, **counts}))
            return
        kept = f"\nshards: {run} ({_SHARDS})" if run else ""
        click.echo(f"{self.text}\npredictions: {output}{kept}")
