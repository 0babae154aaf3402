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

from sekd.commands.maintenance import EXIT_CONFIG, EXIT_INCOMPLETE
from sekd.errors import ConfigError, in_one_line
from sekd.io.locations import local_directory

if TYPE_CHECKING:
    from sekd.pipeline.runner import Outcome
    from sekd.report.table import Table

logger = logging.getLogger("sekd")

_SHORT_FOR = {
    "executor": "runtime.executor",
    "workers": "runtime.workers",
    "address": "runtime.address",
    "tasks": "tasks",
    "limit": "limit",
}
"""Option of a command -> the key below its section that the option sets."""


def config_command(run: Callable[..., bool]) -> Callable[..., None]:
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
        from sekd.pipeline.runner import IncompleteError

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
                log_path = local_directory(config.run_dir) / "sekd.log"
                _start_logging(log_path)
                write_resolved(config, config.run_dir / f"{run.__name__}.config.yaml")
            sys.exit(0 if run(config, as_json, **options) else EXIT_INCOMPLETE)
        except ConfigError as error:
            logger.debug("stopped", exc_info=True)
            # The first process says the same; on another machine it may be about that one alone.
            if not is_silent or os.environ.get("LOCAL_RANK", "0") == "0":
                click.echo(f"sekd: {error}", err=True)
            sys.exit(EXIT_CONFIG)
        except IncompleteError as error:
            report_incomplete(error.outcomes, as_json)
            sys.exit(EXIT_INCOMPLETE)
        except Exception as error:
            logger.debug("stopped", exc_info=True)
            where = f" (traceback in {log_path})" if log_path else ""
            click.echo(f"sekd: {in_one_line(error)}{where}", err=True)
            sys.exit(EXIT_INCOMPLETE)

    return command


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


def print_table(table: Table) -> None:
    """A table on standard output."""
    from rich.console import Console

    from sekd.report.formats import to_terminal

    console = Console()
    if not console.is_terminal:  # a pipe has no width, and a folded table cannot be read
        console = Console(width=160)
    console.print(to_terminal(table))


def report_incomplete(outcomes: Sequence[Outcome], as_json: bool) -> None:
    """Say what is left of each stage; with ``--json``, of the first stage alone."""
    for outcome in outcomes[:1] if as_json else outcomes:
        name, num_shards = outcome.stage.name, len(outcome.stage.plan)
        if as_json:
            failed = {str(shard): error for shard, error in outcome.failed.items()}
            click.echo(json.dumps({"stage": name, "num_shards": num_shards, "failed": failed}))
            continue
        shard, error = next(iter(outcome.failed.items()))
        hint = "run the same command again to retry them"
        if len(outcome.exhausted) == len(outcome.failed):
            hint = "their attempts are used up; --retry-failed grants them more"
        click.echo(
            f"{name}: {len(outcome.failed)} of {num_shards} shards are left (shard {shard}: "
            f"{error}); {hint}",
            err=True,
        )
