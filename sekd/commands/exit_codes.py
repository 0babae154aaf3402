"""Exit codes of all commands; 0 means that everything is done."""

INCOMPLETE = 1
"""Something is left: shards, students or evaluations that failed, or an unexpected error."""
CONFIG = 2
"""The user's input is wrong; nothing was started."""
FAILURES = 3
"""``status`` and ``verify``: shards failed or were lost, or files are damaged."""
STOPPED = 128
"""Stopped by a signal, whose number is added: 130 after Ctrl-C, 143 after SIGTERM."""

HELP = f"""\b
Exit codes:
  0      everything is done
  {INCOMPLETE}      something failed or is left; the same command again goes on
  {CONFIG}      the input is wrong; nothing was started
  {FAILURES}      status and verify: shards failed or were lost, files are damaged
  {STOPPED}+N stopped by signal N: 130 by Ctrl-C, 143 by SIGTERM
"""
"""The text below the help of every command."""
