"""``sekd score``: every metric of a file of predictions."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sekd.commands import exit_codes
from sekd.commands.output import print_table
from sekd.commands.score_options import file_options, split_pairs
from sekd.errors import ConfigError

if TYPE_CHECKING:
    from sekd.analysis.scoring.files import FileOptions

logger = logging.getLogger(__name__)


@click.command("score")
@click.argument("predictions", type=click.Path(path_type=Path))
@click.option(
    "--taxonomy",
    required=True,
    type=click.Path(path_type=Path),
    help="Taxonomy file: .json or .csv.",
)
@click.option(
    "--level-names", default="", help="Names of a JSON taxonomy's levels: kingdom,phylum,..."
)
@click.option("--score-root", is_flag=True, help="Also score the root, as level 0.")
@click.option(
    "--subtree-level",
    type=click.IntRange(min=0),
    help="Level whose nodes' subtrees are scored each by itself.  [default: 1]",
)
@click.option(
    "--only",
    metavar="COLUMN=VALUE",
    multiple=True,
    callback=split_pairs,
    help="Score only the rows with this model, dataset, paradigm or control; repeatable.",
)
@click.option(
    "--compare",
    metavar="OTHER",
    type=click.Path(path_type=Path),
    help="Other predictions for the same samples; differences to them are shown.",
)
@file_options
@click.option(
    "--alpha",
    type=click.FloatRange(0, 1),
    default=0.95,
    show_default=True,
    help="Weight of the last level in DWPA.",
)
@click.option(
    "--bootstrap",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Number of bootstrap draws behind the interval of each difference.",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def score_command(
    predictions: Path,
    taxonomy: Path,
    level_names: str,
    score_root: bool,
    subtree_level: int | None,
    only: dict[str, str],
    compare: Path | None,
    alpha: float,
    bootstrap: int,
    as_json: bool,
    options: FileOptions,
) -> None:
    """Compute every metric, with its 95 % interval, of any file of PREDICTIONS.

    PREDICTIONS is a table: CSV, TSV, XLSX, JSON, JSONL or Parquet, also with .gz or .zst, or a
    folder that datasets saved. With the columns sample_id, level, truth and prediction, a row is
    one level of a sample; level 1 is the first one below the root. With sample_id, truth and
    prediction, a row is a whole path: a list of names, such a list as JSON, or a leaf. There may
    also be a column per rank, such as truth_genus and pred_genus. Sample logs of lmms-eval, sheets
    of VLMEvalKit, predictions of pybioclip and outputs of the published scripts are recognised.
    Names are matched by stated steps (case, Unicode form, punctuation, leading number, option
    letter), and what was matched is said. An empty prediction is a parse failure. If there are
    columns model, dataset, paradigm or control, each combination of their values is scored by
    itself.

    \b
    Example:
        sekd score mine.csv --taxonomy birds.json
        sekd score mine.csv --taxonomy birds.json --compare theirs.jsonl --json
        sekd score bioclip.csv --taxonomy birds.csv --truth labels.csv
    """
    from sekd import api
    from sekd.report.score import score_tables

    try:
        scored = api.score(
            predictions,
            taxonomy,
            level_names=[name.strip() for name in level_names.split(",") if name],
            compare=compare,
            only=only,
            score_root=score_root,
            subtree_level=subtree_level,
            alpha=alpha,
            num_bootstrap=bootstrap,
            options=options,
        )
    except ConfigError as error:
        click.echo(f"sekd: {error}", err=True)
        sys.exit(exit_codes.CONFIG)
    for warning in scored.warnings:
        logger.warning("sekd: %s", warning)
    if as_json:
        click.echo(json.dumps(scored.to_json()))
        return
    root = "scored, as level 0" if score_root else "not scored"
    click.echo(f"{predictions} by {taxonomy}; the root is {root}\n")
    for table in score_tables(scored.cards, scored.taxonomy):
        print_table(table)
