"""The group of all commands, which get the same options and end in the same way."""

from __future__ import annotations

import logging
import signal
from typing import Any

import click

from sekd.commands import exit_codes
from sekd.io.stop_signals import stop_signals_raise, stopped_by
from sekd.io.terminal_log import log_to_terminal, show_from

_LEVEL = "sekd.level"
"""Key in the click context under which the chosen level of the log stands."""

_WHOLE = 1000
"""Length at which click cuts the first sentence of a command's help: never."""


class Program(click.Group):
    """The group of all commands, which are listed in sections.

    Each command gets ``-h``, ``-q`` and ``-v``, and the exit codes below its help. Each ends in the
    same way when a person or a signal stops it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("context_settings", {"help_option_names": ["-h", "--help"]})
        super().__init__(*args, **kwargs)
        self._sections: dict[str, list[str]] = {}
        _complete(self)

    def add_section(self, title: str, commands: tuple[click.Command, ...]) -> None:
        """Add commands, which the help lists under the title, in this order."""
        self._sections[title] = [str(command.name) for command in commands]
        for command in commands:
            _complete(command)
            self.add_command(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, section by section, as one table."""
        width = max(len(name) for name in self.commands)
        for title, names in self._sections.items():
            helps = [self.commands[name].get_short_help_str(limit=_WHOLE) for name in names]
            with formatter.section(title):
                formatter.write_dl(
                    [(name.ljust(width), text) for name, text in zip(names, helps, strict=True)]
                )

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program, with its log on the terminal."""
        with log_to_terminal():
            return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            with stop_signals_raise():
                return super().invoke(ctx)
        except KeyboardInterrupt as error:
            number = stopped_by(error)
            what = "Ctrl-C" if number == signal.SIGINT else number.name
            click.echo(
                f"sekd: stopped by {what}; what is done stays done, run the same command again to "
                "go on",
                err=True,
            )
            ctx.exit(exit_codes.STOPPED + number)


def _complete(command: click.Command) -> None:
    """Give a command, and those below it, what all commands have."""
    command.epilog = exit_codes.HELP
    command.params += [
        _level_option("-q", "--quiet", logging.ERROR, "Show errors and results only."),
        _level_option("-v", "--verbose", logging.DEBUG, "Show the log in full on the terminal."),
    ]
    if isinstance(command, click.Group):
        for child in command.commands.values():
            _complete(child)


def _level_option(short: str, long: str, level: int, description: str) -> click.Option:
    def choose(context: click.Context, _: click.Parameter, is_given: bool) -> None:
        if not is_given:
            return
        if context.meta.setdefault(_LEVEL, level) != level:
            raise click.UsageError("-q and -v exclude each other")
        show_from(level)

    return click.Option(
        [short, long], is_flag=True, expose_value=False, callback=choose, help=description
    )
