"""Options of ``sekd score`` about its files: columns, truths from elsewhere, clusters, text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import click

_EXAMPLES = {
    "only": ("COLUMN=VALUE", "dataset=birds"),
    "columns": ("NAME=COLUMN", "truth=label,prediction=answer"),
}


def split_pairs(
    _context: click.Context, option: click.Parameter, texts: Sequence[str]
) -> dict[str, str]:
    """Split ``NAME=VALUE`` texts; one of ``--columns`` may hold several, divided by commas."""
    if option.name == "columns":
        texts = [part.strip() for text in texts for part in text.split(",") if part.strip()]
    pairs = dict(text.partition("=")[::2] for text in texts)
    if not all(pairs.values()):
        raise click.BadParameter(
            f"give {_EXAMPLES[str(option.name)][0]}, such as {_EXAMPLES[str(option.name)][1]}"
        )
    return pairs


_OPTIONS = (
    click.option(
        "--columns",
        metavar="NAME=COLUMN",
        multiple=True,
        callback=split_pairs,
        help="What the file calls a column: truth=label,prediction=answer; repeatable.",
    ),
    click.option(
        "--truth",
        metavar="FILE|folder",
        help="Where the truths are that the file lacks: a table of sample_id and truth, or the "
        "folder of each image.",
    ),
    click.option(
        "--cluster",
        metavar="COLUMN|RANK",
        help="Samples with one value there depend on each other, such as those of a camera or a "
        "species; intervals are wider.",
    ),
    click.option("--delimiter", help="Character between the cells of a CSV.  [default: found]"),
    click.option("--encoding", help="Encoding of a text file, such as cp1252.  [default: found]"),
    click.option(
        "--complete-leaves",
        is_flag=True,
        help="An answer that is a leaf stands for its whole path.",
    ),
    click.option(
        "--allow-unknown", is_flag=True, help="Score also where most answers are unknown names."
    ),
)


def file_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command, which gets them as ``options``."""

    @wraps(command)
    def with_options(
        *,
        columns: dict[str, str],
        truth: str | None,
        cluster: str | None,
        delimiter: str | None,
        encoding: str | None,
        complete_leaves: bool,
        allow_unknown: bool,
        **others: Any,
    ) -> Any:
        from sekd.analysis.scoring.files import FileOptions

        options = FileOptions(
            columns=columns,
            truth=truth,
            cluster=cluster,
            delimiter=delimiter,
            encoding=encoding,
            completes_leaves=complete_leaves,
            allows_unknown=allow_unknown,
        )
        return command(options=options, **others)

    for option in reversed(_OPTIONS):
        with_options = option(with_options)
    return with_options
