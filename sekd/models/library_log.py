"""Warnings of transformers go to sekd's log file, one line each, and not between our own lines.

Many of them concern nobody, such as those about defaults that the checkpoint overrides. What makes
a model wrong is an error of our own (:mod:`sekd.models.weights`).
"""

from __future__ import annotations

import logging

import transformers

from sekd.errors import in_one_line

logger = logging.getLogger(__name__)

_LONGEST = 400
"""Characters of a warning that are kept; some hold the whole config of a model."""


class _ToOurLog(logging.Handler):
    """Writes each text once: a model is loaded many times in a run."""

    def __init__(self) -> None:
        super().__init__()
        self._known: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = in_one_line(record.getMessage(), limit=_LONGEST)
        # The report of a checkpoint's keys is checked by ``sekd.models.weights``.
        if text not in self._known and "LOAD REPORT" not in text:
            self._known.add(text)
            logger.debug("%s by transformers: %s", record.levelname.lower(), text)


def redirect_warnings() -> None:
    """Send the warnings of transformers to this module's logger, and show no progress bars."""
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_warning()
    transformers.utils.logging.disable_default_handler()
    transformers.utils.logging.add_handler(_ToOurLog())
