"""``sekd elicit``: the teacher's signals, in shards."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import click

from sekd.commands.running import (
    hash_images,
    on_workers,
    over_config,
    report_incomplete,
    run_settings,
)

if TYPE_CHECKING:
    from sekd.config import RunConfig
    from sekd.pipeline.manifest import Manifest
    from sekd.pipeline.runner import Outcome


@click.command()
@click.option("--retry-failed", is_flag=True, help="Give shards that used up their attempts more.")
@on_workers
@over_config
def elicit(config: RunConfig, as_json: bool, retry_failed: bool) -> bool:
    """Stage one: the teacher walks the taxonomy and its signals are stored.

    Only shards that are not done are run, so the same command resumes, and mends what failed.

    \b
    Example:
        sekd elicit configs/cub200-qwen2.5-vl-7b.yaml --set elicit.engine=vllm
    """
    done = run_elicit(config, retry_failed=retry_failed)
    if not isinstance(done, Elicited):
        return report_incomplete(done, as_json)
    _report_elicited(done, as_json)
    return True


class Elicited(NamedTuple):
    """Both finished passes."""

    answers: Manifest
    states: Manifest


def run_elicit(config: RunConfig, *, retry_failed: bool = False) -> Elicited | Outcome:
    """Both passes; the one that could not be finished if there is one."""
    from sekd.data.samples import Dataset
    from sekd.data.signals import ANSWERS, TRANSCRIPTS
    from sekd.pipeline.plan import Plan
    from sekd.pipeline.runner import run_stage
    from sekd.pipeline.stage import Stage
    from sekd.stages.elicit.answers import AnswersWorker, answers_fields
    from sekd.stages.elicit.states import StatesWorker, states_fields

    name, runtime = config.elicit.dataset, config.elicit.runtime
    settings = run_settings(runtime, retry_failed=retry_failed)
    dataset = Dataset.load(name, config.dataset(name, "elicit.dataset"))
    ids = dataset.samples.ids.to_pylist()
    answers = run_stage(
        Stage.open(
            config.run_dir / "answers",
            answers_fields(config, dataset, hash_images(dataset)),
            partial(Plan.split, ids, runtime.shard_size),
        ),
        partial(AnswersWorker, config, dataset),
        **settings,
    )
    if answers.manifest is None:
        return answers
    manifest = answers.manifest
    states = run_stage(
        Stage.open(
            config.run_dir / "states",
            states_fields(config, manifest.fingerprint, manifest.hashes()),
            partial(answers.stage.plan.without, {bad["sample_id"] for bad in manifest.quarantined}),
        ),
        partial(StatesWorker, config, manifest.groups(TRANSCRIPTS, ANSWERS)),
        **settings,
    )
    if states.manifest is None:
        return states
    return Elicited(manifest, states.manifest)


def _report_elicited(elicited: Elicited, as_json: bool) -> None:
    answers, states = elicited
    num_prompt_tokens = sum(answers.figures("num_prompt_tokens"))
    num_cached_tokens = sum(answers.figures("num_cached_tokens"))
    summary = {
        "num_samples": answers.num_samples,
        "num_quarantined": len(answers.quarantined),
        "num_answers": sum(answers.figures("num_answers")),
        "num_prompt_tokens": num_prompt_tokens,
        "num_cached_tokens": num_cached_tokens,
        "parity_max": max(states.figures("parity_max")),
        "answers": str(answers.directory),
        "states": str(states.directory),
    }
    if as_json:
        click.echo(json.dumps(summary))
        return
    click.echo(
        f"{summary['num_samples']} samples elicited, {summary['num_answers']} answers, "
        f"{summary['num_quarantined']} samples quarantined; {num_prompt_tokens} prompt tokens, "
        f"{num_cached_tokens} of them from the cache; engine and state pass differ by at most "
        f"{summary['parity_max']:.1g} in log-probability\n"
        f"answers: {summary['answers']}\nstates:  {summary['states']}"
    )
