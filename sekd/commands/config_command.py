"""Options, logging and exit codes that all commands with a CONFIG argument share."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sekd.commands import exit_codes
from sekd.commands.output import print_incomplete
from sekd.errors import ConfigError, in_one_line
from sekd.io.faults import StorageError, retry
from sekd.io.locations import local_directory
from sekd.io.log_file import LogFile
from sekd.io.terminal_log import is_quiet, show_from
from sekd.io.torchrun import is_main_process

if TYPE_CHECKING:
    from sekd.config import RunConfig

logger = logging.getLogger("sekd")

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
_OVERRIDES = "sekd.overrides"
"""Key in the click context under which short options collect their ``key=value`` overrides."""


def setting_option(flag: str, *keys: str, as_list: bool = False, **attributes: Any) -> Decorator:
    """Make an option that is short for ``--set key=value``, for each of the keys.

    Args:
        flag: the option, such as ``--limit``.
        keys: the config keys that the option sets, such as ``benchmark.limit``.
        as_list: the value is a comma-separated list.
        attributes: passed on to ``click.option``.
    """

    def add_override(context: click.Context, _: click.Parameter, value: object) -> None:
        if value is not None:
            text = f"[{value}]" if as_list else f"{value}"
            overrides = context.meta.setdefault(_OVERRIDES, [])
            overrides += [f"{key}={text}" for key in keys]

    return click.option(flag, expose_value=False, callback=add_override, **attributes)


def short_overrides(context: click.Context) -> list[str]:
    """Return the ``key=value`` of the short options that were given."""
    return list(context.meta.get(_OVERRIDES, []))


def worker_options(section: str) -> Decorator:
    """Add the options that say where the workers of a stage run.

    Args:
        section: the config section whose ``runtime`` they set.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for flag, settings in (
            ("address", {"help": "Address of a Ray cluster, as ray.init takes it."}),
            ("workers", {"type": int, "help": "Number of workers; each loads its own engine."}),
            ("executor", {"help": "Where workers run: inline, process or ray."}),
        ):
            key = f"{section}.runtime.{flag}"
            command = setting_option(f"--{flag}", key, **settings)(command)
        return command

    return decorate


limit_option = setting_option(
    "--limit",
    "elicit.limit",
    type=int,
    metavar="N",
    help="Try the first N images of elicit.dataset; what they yield is kept when the rest follows.",
)

retry_failed_option = click.option(
    "--retry-failed",
    is_flag=True,
    help="Try shards again that have used up their attempts or have quarantined samples.",
)


def config_command(
    name: str, *, is_distributed: bool = False, takes_run: bool = False
) -> Decorator:
    """Turn ``run(config, as_json, **options) -> bool`` into a command with a CONFIG argument.

    ``run`` returns whether the work is complete, which decides the exit code. The command loads the
    config, and starts the log.

    Args:
        name: the command's name, as in messages.
        is_distributed: the command may be started by torchrun. Only the first process then logs and
            prints.
        takes_run: a directory of a run may stand in place of the config: the one it was made with.
    """

    def decorate(run: Callable[..., bool]) -> Callable[..., None]:
        @click.argument("config_path", metavar="CONFIG", type=click.Path(path_type=Path))
        @click.option(
            "--set",
            "overrides",
            metavar="KEY=VALUE",
            multiple=True,
            help="Change a setting of the config, e.g. elicit.top_k=50; repeatable.",
        )
        @click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
        @click.pass_context
        @wraps(run)
        def command(
            context: click.Context,
            config_path: Path,
            overrides: Sequence[str],
            as_json: bool,
            **options: Any,
        ) -> None:
            is_silent = is_distributed and not is_main_process()
            log = _Log()
            try:
                _refuse_torchrun(name, is_distributed)
                changes = [*overrides, *short_overrides(context)]
                config = _load(config_path, changes, takes_run=takes_run)
                if not is_silent:
                    log.start(config)
                elif not is_quiet():
                    show_from(logging.WARNING)
                is_complete = run(config, as_json, **options)
            except BrokenPipeError:  # who reads the output has left: click ends in silence
                raise
            except Exception as error:  # noqa: BLE001  every error becomes one line and a code
                sys.exit(fail(error, as_json, is_silent, log.path))
            sys.exit(0 if is_complete else exit_codes.INCOMPLETE)

        return command

    return decorate


def _refuse_torchrun(name: str, is_distributed: bool) -> None:
    if not is_distributed and os.environ.get("WORLD_SIZE", "1") != "1":
        raise ConfigError(f"sekd {name} runs in one process; torchrun is for sekd distill")


def _load(path: Path, overrides: Sequence[str], *, takes_run: bool) -> RunConfig:
    from sekd.config import load_config, load_run_config

    if takes_run and path.is_dir():
        return load_run_config(path, overrides)
    return load_config(path, overrides)


class _Log:
    """The run's log file.

    Attributes:
        path: the log file; ``None`` before :meth:`start`.
    """

    def __init__(self) -> None:
        self.path: Path | None = None

    def start(self, config: RunConfig) -> None:
        """Open the log.

        Raises:
            ConfigError: if nothing can be written into the run's directory.
        """
        path = local_directory(config.run_dir) / "sekd.log"
        try:
            retry(lambda: _append_nothing(path), path.parent)
        except (OSError, StorageError) as error:
            if isinstance(error, StorageError) and error.kind == "passing":
                raise
            why = error.__cause__ if isinstance(error, StorageError) else error
            raise ConfigError(
                f"{path.parent}: cannot be written ({why}); set another run_dir"
            ) from error
        self.path = path
        to_file = LogFile(path)
        to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logger.addHandler(to_file)


def _append_nothing(path: Path) -> None:
    """Find out whether a file, which is made if need be, can be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a"):
        pass


def fail(
    error: Exception, as_json: bool, is_silent: bool = False, log_path: Path | None = None
) -> int:
    """Print what went wrong on one line, with the traceback in the log; return the exit code."""
    from sekd.pipeline.runner import IncompleteError

    if isinstance(error, IncompleteError):
        print_incomplete(error.outcomes, as_json)
        return exit_codes.INCOMPLETE
    logger.debug("stopped", exc_info=error)
    if isinstance(error, ConfigError):
        # The first process prints the same error, but on another machine it may have none.
        if not is_silent or os.environ.get("LOCAL_RANK", "0") == "0":
            click.echo(f"sekd: {error}", err=True)
        return exit_codes.CONFIG
    where = f" (traceback in {log_path})" if log_path else ""
    click.echo(f"sekd: {in_one_line(error)}{where}", err=True)
    return exit_codes.INCOMPLETE
