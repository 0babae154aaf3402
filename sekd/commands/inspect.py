"""``sekd inspect``: the teacher's questions, answers and stored signals."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sekd.commands.run_command import run_command
from sekd.errors import ConfigError

if TYPE_CHECKING:
    from sekd.data.signals import TeacherShard
    from sekd.io.locations import Location
    from sekd.report.inspect.views import SampleView

_NUM_LEAST = 10
"""Number of samples that an overview lists, the least confident first."""


@click.command()
@run_command
@click.argument("sample", required=False)
@click.option(
    "--html", "page_path", type=click.Path(path_type=Path), help="Write an HTML page to this file."
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def inspect(run: Location, sample: str | None, page_path: Path | None, as_json: bool) -> int:
    """Show the teacher's answers in RUN: those of one SAMPLE, or a summary of all levels.

    Only shards that are done are shown; the run need not be finished.

    \b
    Example:
        sekd inspect runs/birds
        sekd inspect runs/birds herring_gull/17.jpg --html gull.html
    """
    from rich.console import Console

    from sekd.report.inspect.page import render_inspection
    from sekd.report.inspect.text import render_run, render_sample
    from sekd.stages.inspect import view_run

    found = _Shards(run)
    if sample is not None:
        views, overview = [found.view(sample)], None
    else:
        overview = view_run(str(found.directory), found.all(), _NUM_LEAST)
        views = [found.view(each) for each in overview.least_confident] if page_path else []
    if page_path is not None:
        title = sample or f"{overview.num_samples if overview else 0} samples elicited"
        page_path.write_text(render_inspection(title, overview, views), encoding="utf-8")
        click.echo(f"page: {page_path}", err=as_json)
    if as_json:
        click.echo(json.dumps(asdict(overview or views[0])))
    elif page_path is None:
        console = Console(width=None if sys.stdout.isatty() else 120)  # a pipe has no width
        for part in render_run(overview) if overview else render_sample(views[0]):
            console.print(part)
    return 0


class _Shards:
    """The newest answers of a run that has any, and the states that go with them."""

    def __init__(self, run: Location) -> None:
        from sekd.data.signals import ANSWERS, STATE_ROWS, STATES, TRANSCRIPTS
        from sekd.pipeline.manifest import find_done_files
        from sekd.pipeline.stage import newest_first

        started = (
            (directory, fields, find_done_files(directory, TRANSCRIPTS, ANSWERS))
            for directory, fields in newest_first(run / "answers")
        )
        newest = next((each for each in started if each[2]), None)
        if newest is None:
            raise ConfigError(f"{run}: no shard of answers is done; run sekd elicit first")
        self.directory, self._fields, self._answers = newest
        self._states: Any = {}
        for states, its_fields in newest_first(run / "states"):
            if str(its_fields["answers"]["fingerprint"])[:16] == self.directory.name:
                self._states = find_done_files(states, STATES, STATE_ROWS)
                break
        self._decode: Callable[[Sequence[int]], str] | None = None

    def all(self) -> list[TeacherShard]:
        """Every shard that is done."""
        from sekd.data.signals import TeacherShard

        return [TeacherShard(*files) for files in self._answers.values()]

    def view(self, sample_id: str) -> SampleView:
        """One sample.

        Raises:
            ConfigError: if it is not among the samples that are done.
        """
        import difflib

        from sekd.data.signals import TeacherShard
        from sekd.stages.inspect import StateLookup, view_sample

        known: list[str] = []
        for index, files in self._answers.items():
            shard = TeacherShard(*files)
            if sample_id in shard.sample_ids:
                states = StateLookup(*self._states[index]) if index in self._states else None
                sample = shard[shard.sample_ids.index(sample_id)]
                return view_sample(sample, states, self._decoder())
            known += shard.sample_ids
        near = difflib.get_close_matches(sample_id, known, n=1, cutoff=0.0)
        raise ConfigError(
            f"no sample {sample_id!r} among the {len(known)} that are done; did you mean {near[0]}?"
        )

    def _decoder(self) -> Callable[[Sequence[int]], str]:
        """Of the model's tokenizer, special tokens shown."""
        from sekd.config import ModelSpec
        from sekd.models.loading import load_processor

        if self._decode is None:
            spec = ModelSpec.model_validate_json(json.dumps(self._fields["spec"]["model"]))
            tokenizer = load_processor(spec).tokenizer
            self._decode = lambda ids: str(tokenizer.decode(ids, skip_special_tokens=False))
        return self._decode
