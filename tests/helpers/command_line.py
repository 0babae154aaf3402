"""Runs the command line in this process."""

from __future__ import annotations

from click.testing import CliRunner, Result

from sekd.cli import main


def sekd(*arguments: object) -> Result:
    """Run ``sekd`` with these arguments.

    The command turns every error into one line and an exit code, so an exception that comes out of
    it is a fault of its own, and is raised here.
    """
    return CliRunner(catch_exceptions=False).invoke(main, [str(argument) for argument in arguments])
