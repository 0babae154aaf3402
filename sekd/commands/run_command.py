"""The RUN argument that commands over an existing run share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import click
from click.shell_completion import CompletionItem

from sekd.commands import exit_codes
from sekd.errors import ConfigError, FatalError


def run_command(command: Callable[..., int]) -> Callable[..., None]:
    """Give a command the argument RUN, before all others; ``command`` returns the exit code."""

    @click.argument("run", shell_complete=_complete_directory)
    @wraps(command)
    def wrapped(run: str, **options: Any) -> None:
        from sekd.io.files import names_in
        from sekd.io.locations import to_location

        try:
            location = to_location(run)
            if not names_in(location):
                raise ConfigError(f"{run}: no run there; give a config's run_dir")
            sys.exit(command(location, **options))
        except BrokenPipeError:  # who reads the output has left: click ends in silence
            raise
        except ConfigError as error:
            click.echo(f"sekd: {error}", err=True)
        except FatalError as error:
            click.echo(f"sekd: {error}", err=True)
            sys.exit(exit_codes.INCOMPLETE)
        except (OSError, ImportError, ValueError) as error:
            click.echo(f"sekd: {run}: {error}", err=True)
        sys.exit(exit_codes.CONFIG)

    return wrapped


def _complete_directory(*_: object) -> list[CompletionItem]:
    """Let the shell complete RUN as a directory, which a remote store is not."""
    return [CompletionItem("", type="dir")]
