"""Run the command line as ``python -m sekd``."""

from sekd.cli import main

main(prog_name="sekd")
