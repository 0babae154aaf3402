"""The command line: composes a stage with the runner, and turns errors into one line.

Libraries that take long to import (torch, transformers, vllm) are imported inside the commands, so
that ``sekd --help`` is instant.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sekd import __version__, upkeep
from sekd.errors import ConfigError, SekdError

if TYPE_CHECKING:
    from sekd.config import RunConfig, ShardRuntime
    from sekd.data.image_hashes import ImageHashes
    from sekd.data.samples import Dataset
    from sekd.locations import Location
    from sekd.pipeline.manifest import Manifest
    from sekd.pipeline.runner import Outcome

logger = logging.getLogger("sekd")

EXIT_INCOMPLETE, EXIT_CONFIG = upkeep.EXIT_INCOMPLETE, upkeep.EXIT_CONFIG


@click.group()
@click.version_option(__version__)
def main() -> None:
    """Self-Elicited Knowledge Distillation for vision-language models.

    A model walks a taxonomy step by step as its own teacher (elicit); a LoRA student of the same
    model learns to answer the whole path at once (distill); both are measured (evaluate).

    \b
    Try it without a download:
        sekd draw-world world
        sekd plan world/config.yaml
        sekd elicit world/config.yaml
        sekd distill world/config.yaml
        sekd evaluate world/config.yaml
    """


def _run_command(run: Callable[..., bool]) -> Callable[..., None]:
    """Options, logging and exit codes that all commands over a config share.

    ``run(config, as_json)`` returns whether the work is complete.
    """

    @click.argument("config_path", metavar="CONFIG", type=click.Path(path_type=Path))
    @click.option(
        "--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Override a.b=c; repeatable."
    )
    @click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
    @wraps(run)
    def command(config_path: Path, overrides: Sequence[str], as_json: bool, **options: Any) -> None:
        from sekd.config import load_config, write_resolved

        log_path = None
        try:
            placed = [
                f"{run.__name__}.runtime.{name}={value}"
                for name in ("executor", "workers", "address")
                if (value := options.pop(name, None)) is not None
            ]
            config = load_config(config_path, [*overrides, *placed])
            log_path = _on_this_machine(config.run_dir) / "sekd.log"
            _start_logging(log_path)
            write_resolved(config, config.run_dir / f"{run.__name__}.config.yaml")
            sys.exit(0 if run(config, as_json, **options) else EXIT_INCOMPLETE)
        except ConfigError as error:
            logger.debug("stopped", exc_info=True)
            click.echo(f"sekd: {error}", err=True)
            sys.exit(EXIT_CONFIG)
        except Exception as error:
            logger.debug("stopped", exc_info=True)
            kind = "" if isinstance(error, SekdError) else f"{type(error).__name__}: "
            where = f" (traceback in {log_path})" if log_path else ""
            click.echo(f"sekd: {kind}{error}{where}", err=True)
            sys.exit(EXIT_INCOMPLETE)

    return command


def _on_workers(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say where workers run; short for ``--set <command>.runtime.…``."""
    for option in (
        click.option("--address", help="Of a Ray cluster, as ray.init takes it."),
        click.option("--workers", type=int, help="How many, an engine each."),
        click.option("--executor", help="Where workers run: inline, process or ray."),
    ):
        command = option(command)
    return command


def _on_this_machine(run_dir: Location) -> Path:
    """Where logs of commands and a training's checkpoints are kept, whatever the run's place."""
    from sekd.data.hashing import digest
    from sekd.locations import cache_directory

    if isinstance(run_dir, Path):
        return run_dir
    return cache_directory() / "runs" / digest(str(run_dir))[:16]


def _start_logging(path: Path) -> None:
    """Everything with tracebacks into the run's log; one line per event on standard error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    to_file = logging.FileHandler(path, encoding="utf-8")
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger("sekd")
    root.setLevel(logging.DEBUG)
    root.handlers = [to_file, _Terminal(logging.INFO)]
    root.propagate = False


class _Terminal(logging.Handler):
    """One line per event on standard error, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(record.getMessage(), err=True)


for _command in (upkeep.status, upkeep.verify, upkeep.gc):
    main.add_command(_command)


@main.command()
@click.option(
    "--tflops",
    type=click.FloatRange(min=0, min_open=True),
    default=100.0,
    show_default=True,
    help="TFLOP/s that one worker sustains; counts until a rate was measured.",
)
@_run_command
def plan(config: RunConfig, as_json: bool, tflops: float) -> bool:
    """What sekd elicit will take: answers, tokens, bytes and hours, before anything is spent.

    A few samples are rehearsed without the model. The hours follow from the rate of the shards
    that are done, if there are any.

    \b
    Example:
        sekd plan configs/cub200-qwen2.5-vl-7b.yaml --tflops 300
    """
    from rich.filesize import decimal

    from sekd.data.samples import Dataset
    from sekd.pipeline.status import run_status
    from sekd.stages.elicit.estimate import estimate

    name, runtime = config.elicit.dataset, config.elicit.runtime
    dataset = Dataset.load(name, config.dataset(name, "elicit.dataset"))
    cost = estimate(config, dataset)
    rates = {
        stage.name: stage.rate
        for stage in run_status(config.run_dir)
        if stage.name in ("answers", "states") and stage.rate
    }
    num_workers = 1 if runtime.executor == "inline" else runtime.workers
    if len(rates) == 2:
        seconds = sum(cost.num_samples / rate for rate in rates.values())
        basis = "at the rate of the shards that are done"
    else:
        seconds, basis = cost.flops / (tflops * 1e12), f"at {tflops:g} TFLOP/s a worker (--tflops)"
    summary = {
        "num_shards": -(-cost.num_samples // runtime.shard_size),
        **asdict(cost),
        "num_workers": num_workers,
        "hours": seconds / 3600 / num_workers,
        "hours_basis": basis,
    }
    if as_json:
        click.echo(json.dumps(summary))
        return True
    unusable = f", about {cost.num_unusable:,} of them unusable" if cost.num_unusable else ""
    lines = {
        "samples": f"{cost.num_samples:,}{unusable}; {cost.num_probed} were rehearsed",
        "shards": f"{summary['num_shards']:,}",
        "answers": f"{cost.num_answers:,}",
        "tokens": f"{cost.num_tokens:,}, and once more for the states "
        f"({cost.num_prompt_tokens:,} without a prefix cache)",
        "on disk": decimal(cost.num_bytes),
        "time": f"{_duration(seconds / num_workers)} on {num_workers} worker(s), {basis}",
    }
    for title, text in lines.items():
        click.echo(f"{title:8} {text}")
    return True


@main.command()
@click.option("--retry-failed", is_flag=True, help="Give shards that used up their attempts more.")
@_on_workers
@_run_command
def elicit(config: RunConfig, as_json: bool, retry_failed: bool) -> bool:
    """Stage one: the teacher walks the taxonomy and its signals are stored.

    Only shards that are not done are run, so the same command resumes, and mends what failed.

    \b
    Example:
        sekd elicit configs/cub200-qwen2.5-vl-7b.yaml --set elicit.engine=vllm
    """
    from sekd.data.samples import Dataset
    from sekd.data.signals import ANSWERS, TRANSCRIPTS
    from sekd.pipeline.plan import Plan
    from sekd.pipeline.runner import run_stage
    from sekd.pipeline.stage import Stage
    from sekd.stages.elicit.answers import AnswersWorker, answers_fields
    from sekd.stages.elicit.states import StatesWorker, states_fields

    name, runtime = config.elicit.dataset, config.elicit.runtime
    settings = _run_settings(runtime, retry_failed=retry_failed)
    dataset = Dataset.load(name, config.dataset(name, "elicit.dataset"))
    ids = dataset.samples.ids.to_pylist()
    answers = run_stage(
        Stage.open(
            config.run_dir / "answers",
            answers_fields(config, dataset, _hash_images(dataset)),
            partial(Plan.split, ids, runtime.shard_size),
        ),
        partial(AnswersWorker, config, dataset),
        **settings,
    )
    if answers.manifest is None:
        return _report_incomplete(answers, as_json)
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
        return _report_incomplete(states, as_json)
    _report_elicited(manifest, states.manifest, as_json)
    return True


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} seconds"


def _hash_images(dataset: Dataset) -> ImageHashes:
    from sekd.data.image_hashes import ImageHashes
    from sekd.pipeline.progress import show_progress

    hashes = ImageHashes(dataset.samples)
    if hashes.num_unknown:
        with show_progress(f"images of {dataset.name}", hashes.num_unknown) as progress:
            hashes.compute(progress.advance)
    return hashes


def _run_settings(runtime: ShardRuntime, *, retry_failed: bool = False) -> dict[str, Any]:
    from sekd.pipeline.executors import open_executor

    return {
        "max_attempts": runtime.max_attempts,
        "executor": open_executor(runtime),
        "shard_timeout": runtime.shard_timeout,
        "retry_failed": retry_failed,
    }


def _report_incomplete(outcome: Outcome, as_json: bool) -> bool:
    """Say what is left; the last line of an incomplete run."""
    name, num_shards = outcome.stage.name, len(outcome.stage.plan)
    if as_json:
        failed = {str(shard): error for shard, error in outcome.failed.items()}
        click.echo(json.dumps({"stage": name, "num_shards": num_shards, "failed": failed}))
        return False
    shard, error = next(iter(outcome.failed.items()))
    hint = "run the same command again to retry them"
    if len(outcome.exhausted) == len(outcome.failed):
        hint = "their attempts are used up; sekd elicit --retry-failed grants them more"
    click.echo(
        f"{name}: {len(outcome.failed)} of {num_shards} shards are left (shard {shard}: {error}); "
        f"{hint}",
        err=True,
    )
    return False


def _report_elicited(answers: Manifest, states: Manifest, as_json: bool) -> None:
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


@main.command()
@_run_command
def distill(config: RunConfig, as_json: bool) -> bool:
    """Stage two: a LoRA student learns the joint prompt from the teacher's shards.

    Resumes from its last checkpoint. Start it with torchrun for several GPUs.

    \b
    Example:
        sekd distill configs/cub200-qwen2.5-vl-7b.yaml --set distill.losses.feature=0
    """
    from sekd.data.signals import ANSWERS, STATE_ROWS, STATES, TRANSCRIPTS
    from sekd.data.taxonomy import Taxonomy
    from sekd.pipeline.folders import find_folder, publish_folder
    from sekd.pipeline.stage import open_directory
    from sekd.stages.distill.dataset import ShardFiles
    from sekd.stages.distill.train import distill_fields, train
    from sekd.stages.elicit.answers import answers_spec
    from sekd.stages.elicit.states import states_spec

    answers = _finished(config, "answers", answers_spec(config))
    states = _finished(config, "states", states_spec(config))
    dataset = config.dataset(config.elicit.dataset, "elicit.dataset")
    taxonomy = Taxonomy.load(dataset.taxonomy, level_names=dataset.level_names)
    fields = distill_fields(config, states.fingerprint, states.hashes())
    directory = open_directory(config.run_dir / "distill", fields)
    adapter = find_folder(directory, "adapter")
    if adapter is None:
        dialogues = answers.groups(TRANSCRIPTS, ANSWERS)
        shards = [
            ShardFiles(*dialogues[shard], *files)
            for shard, files in states.groups(STATES, STATE_ROWS).items()
        ]
        here = _on_this_machine(config.run_dir) / "distill" / directory.name
        train(config, taxonomy, shards, here)
        adapter = publish_folder(here, directory, "adapter")
    click.echo(json.dumps({"adapter": str(adapter)}) if as_json else f"adapter: {adapter}")
    return True


def _finished(config: RunConfig, stage: str, spec: dict[str, Any]) -> Manifest:
    """The manifest of a finished stage under this config.

    Raises:
        ConfigError: if there is none; the message says how the newest other config differs.
    """
    from sekd.pipeline.stage import changes_since, finished

    root = config.run_dir / stage
    manifest = finished(root, spec)
    if manifest is not None:
        return manifest
    changes = changes_since(root, spec)
    reason = f"; what is there differs in {'; '.join(changes)}" if changes else ""
    raise ConfigError(f"{root}: no finished {stage} for this config{reason}; run sekd elicit first")


@main.command()
@_on_workers
@_run_command
def evaluate(config: RunConfig, as_json: bool) -> bool:
    """Last stage: base and student under the three paradigms, with every metric.

    Writes metrics.json, metrics.md and predictions.parquet into the run's directory. Without a
    finished student the base is evaluated alone.

    \b
    Example:
        sekd evaluate configs/cub200-qwen2.5-vl-7b.yaml --set evaluate.limit=500
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
    from rich.console import Console

    from sekd.data.predictions import PREDICTIONS, read_predictions
    from sekd.data.samples import Dataset
    from sekd.pipeline.files import write_atomically
    from sekd.pipeline.plan import Plan
    from sekd.pipeline.runner import run_stage
    from sekd.pipeline.stage import Stage
    from sekd.stages.evaluate.paradigms import PredictionsWorker, predictions_fields
    from sekd.stages.evaluate.report import metrics_row, render_table, to_markdown

    spec = config.evaluate
    models: dict[str, Path | None] = {"base": None}
    adapter = _finished_adapter(config)
    if adapter is not None:
        models["student"] = adapter
    else:
        logger.info("no finished student for this config: evaluating the base alone")
    tables: list[pa.Table] = []
    metrics: list[dict[str, Any]] = []
    level_names: list[str] = []
    for name in spec.datasets:
        dataset = Dataset.load(name, config.dataset(name, "evaluate.datasets"))
        dataset = dataset.first(spec.limit) if spec.limit else dataset
        ids, images = dataset.samples.ids.to_pylist(), _hash_images(dataset)
        for model, its_adapter in models.items():
            outcome = run_stage(
                Stage.open(
                    config.run_dir / "predictions" / f"{name}-{model}",
                    predictions_fields(config, dataset, images, its_adapter),
                    partial(Plan.split, ids, spec.runtime.shard_size),
                ),
                partial(PredictionsWorker, config, dataset, model, its_adapter),
                **_run_settings(spec.runtime),
            )
            if outcome.manifest is None:
                return _report_incomplete(outcome, as_json)
            table = read_predictions(list(outcome.manifest.files(PREDICTIONS).values()))
            tables.append(table)
            for paradigm in spec.paradigms:
                rows = table.filter(pc.field("paradigm") == paradigm)
                names = {
                    "model": model,
                    "dataset": name,
                    "paradigm": paradigm,
                    "num_quarantined": len(outcome.manifest.quarantined),
                }
                metrics.append(metrics_row(rows, dataset.taxonomy, spec, names))
        deepest = sorted({(n.depth, n.rank) for n in dataset.taxonomy.nodes if n.depth})
        level_names = max(level_names, [rank for _, rank in deepest], key=len)
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.concat_tables(tables), buffer)
    write_atomically(config.run_dir / "predictions.parquet", buffer.getvalue().to_pybytes())
    content = {"rows": metrics, "root_is_scored": False}
    write_atomically(config.run_dir / "metrics.json", json.dumps(content, indent=1) + "\n")
    write_atomically(config.run_dir / "metrics.md", to_markdown(metrics, level_names))
    if as_json:
        click.echo(json.dumps(content))
    else:
        console = Console()
        if not console.is_terminal:  # a pipe has no width, and a folded table cannot be read
            console = Console(width=160)
        console.print(render_table(metrics, level_names))
        click.echo(f"metrics: {config.run_dir / 'metrics.json'}")
    return True


def _finished_adapter(config: RunConfig) -> Path | None:
    """The newest adapter that was trained under this config."""
    from sekd.pipeline.folders import find_folder
    from sekd.pipeline.stage import directories
    from sekd.stages.distill.train import distill_spec

    for directory in directories(config.run_dir / "distill", distill_spec(config)):
        adapter = find_folder(directory, "adapter")
        if adapter is not None:
            return adapter
    return None


@main.command("draw-world")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--train-images", default=4000, show_default=True)
@click.option("--test-images", default=400, show_default=True, help="Per taxonomy.")
@click.option("--seed", default=0, show_default=True)
def draw_world(directory: Path, train_images: int, test_images: int, seed: int) -> None:
    """Draw pictures of a small world, with a config that runs on a laptop.

    Two taxonomies of 81 species each: `seen`, which the student is distilled on, and `unseen`.
    The config names the tiny model that comes with sekd.

    \b
    Example:
        sekd draw-world world && sekd elicit world/config.yaml
    """
    from sekd.data.toyworld import write_world

    write_world(directory, num_train=train_images, num_test=test_images, seed=seed)
    click.echo(f"config: {directory / 'config.yaml'}")
