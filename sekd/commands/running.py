"""What the commands over a config share: options, logging, exit codes and how shards are run."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sekd.commands.upkeep import EXIT_CONFIG, EXIT_INCOMPLETE
from sekd.errors import ConfigError, SekdError

if TYPE_CHECKING:
    from sekd.config import RunConfig, ShardRuntime
    from sekd.data.image_hashes import ImageHashes
    from sekd.data.samples import Dataset
    from sekd.locations import Location
    from sekd.pipeline.runner import Outcome
    from sekd.stages.report.table import Table

logger = logging.getLogger("sekd")

_SHORT_FOR = {
    "executor": "runtime.executor",
    "workers": "runtime.workers",
    "address": "runtime.address",
    "tasks": "tasks",
    "limit": "limit",
}
"""Option of a command -> the key below its section that the option sets."""


def over_config(run: Callable[..., bool]) -> Callable[..., None]:
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
        is_silent = run.__name__ == "distill" and is_follower()
        try:
            if run.__name__ != "distill" and os.environ.get("WORLD_SIZE", "1") != "1":
                raise ConfigError(
                    f"sekd {run.__name__} runs in one process; torchrun is for sekd distill"
                )
            shorthand = [
                f"{run.__name__}.{key}={value}"
                for name, key in _SHORT_FOR.items()
                if (value := options.pop(name, None)) is not None
            ]
            config = load_config(config_path, [*overrides, *shorthand])
            if not is_silent:
                log_path = on_this_machine(config.run_dir) / "sekd.log"
                _start_logging(log_path)
                write_resolved(config, config.run_dir / f"{run.__name__}.config.yaml")
            sys.exit(0 if run(config, as_json, **options) else EXIT_INCOMPLETE)
        except ConfigError as error:
            logger.debug("stopped", exc_info=True)
            # The first process says the same; on another machine it may be about that one alone.
            if not is_silent or os.environ.get("LOCAL_RANK", "0") == "0":
                click.echo(f"sekd: {error}", err=True)
            sys.exit(EXIT_CONFIG)
        except Exception as error:
            logger.debug("stopped", exc_info=True)
            where = f" (traceback in {log_path})" if log_path else ""
            click.echo(f"sekd: {in_one_line(error)}{where}", err=True)
            sys.exit(EXIT_INCOMPLETE)

    return command


def in_one_line(error: Exception) -> str:
    """What went wrong; of an error that is not ours with its type."""
    kind = "" if isinstance(error, SekdError) else f"{type(error).__name__}: "
    return kind + " ".join(str(error).split())


def is_follower() -> bool:
    """Whether this is one of the processes of torchrun, but not the first, which alone speaks."""
    return os.environ.get("RANK", "0") != "0"


def on_workers(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say where workers run; short for ``--set <command>.runtime.…``."""
    for option in (
        click.option("--address", help="Of a Ray cluster, as ray.init takes it."),
        click.option("--workers", type=int, help="How many, an engine each."),
        click.option("--executor", help="Where workers run: inline, process or ray."),
    ):
        command = option(command)
    return command


def on_this_machine(run_dir: Location) -> Path:
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


def finished_adapter(config: RunConfig) -> Path | None:
    """The newest adapter that was trained under this config."""
    from sekd.pipeline.folders import find_folder
    from sekd.pipeline.stage import directories
    from sekd.stages.distill.train import distill_spec

    for directory in directories(config.run_dir / "distill", distill_spec(config)):
        adapter = find_folder(directory, "adapter")
        if adapter is not None:
            return adapter
    return None


def print_table(table: Table) -> None:
    """A table on standard output."""
    from rich.console import Console

    from sekd.stages.report.formats import to_terminal

    console = Console()
    if not console.is_terminal:  # a pipe has no width, and a folded table cannot be read
        console = Console(width=160)
    console.print(to_terminal(table))


def hash_images(dataset: Dataset) -> ImageHashes:
    """Hashes of a dataset's images, with a progress bar over those not yet known."""
    from sekd.data.image_hashes import ImageHashes
    from sekd.pipeline.progress import show_progress

    hashes = ImageHashes(dataset.samples)
    if hashes.num_unknown:
        with show_progress(f"images of {dataset.name}", hashes.num_unknown) as progress:
            hashes.compute(progress.advance)
    return hashes


def run_settings(runtime: ShardRuntime, *, retry_failed: bool = False) -> dict[str, Any]:
    """Arguments of ``run_stage`` that a stage's runtime settings stand for."""
    from sekd.pipeline.executors import open_executor

    return {
        "max_attempts": runtime.max_attempts,
        "executor": open_executor(runtime),
        "shard_timeout": runtime.shard_timeout,
        "retry_failed": retry_failed,
    }


def report_incomplete(outcome: Outcome, as_json: bool) -> bool:
    """Say what is left; the last line of an incomplete run."""
    name, num_shards = outcome.stage.name, len(outcome.stage.plan)
    if as_json:
        failed = {str(shard): error for shard, error in outcome.failed.items()}
        click.echo(json.dumps({"stage": name, "num_shards": num_shards, "failed": failed}))
        return False
    shard, error = next(iter(outcome.failed.items()))
    hint = "run the same command again to retry them"
    if len(outcome.exhausted) == len(outcome.failed):
        hint = "their attempts are used up; --retry-failed grants them more"
    click.echo(
        f"{name}: {len(outcome.failed)} of {num_shards} shards are left (shard {shard}: {error}); "
        f"{hint}",
        err=True,
    )
    return False


def report_all_incomplete(outcomes: Sequence[Outcome], as_json: bool) -> bool:
    """The same of several stages; JSON is of the first alone."""
    for outcome in outcomes[:1] if as_json else outcomes:
        report_incomplete(outcome, as_json)
    return False
