"""Exit codes of all commands; 0 means that everything is done."""

INCOMPLETE = 1
"""Something is left: shards, students or evaluations that failed, or an unexpected error."""
CONFIG = 2
"""The user's input is wrong; nothing was started."""
FAILURES = 3
"""``status`` and ``verify``: shards failed or were lost, or files are damaged."""
STOPPED = 128
"""Stopped by a signal, whose number is added: 130 after Ctrl-C, 143 after SIGTERM."""
