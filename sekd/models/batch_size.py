"""A batch size that gives way where memory does not suffice."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from accelerate.utils.memory import should_reduce_batch_size

from sekd.models.loading import free_memory

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class BatchSize:
    """Rows that go through the model together; halved for good where they do not fit."""

    def __init__(self, size: int) -> None:
        self.size = size

    def attempt(self, run: Callable[[], Result], num_rows: int) -> Result | None:
        """What ``run`` returns, or ``None`` where memory did not suffice for its rows."""
        try:
            return run()
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
        free_memory()  # outside of the handler, whose traceback holds on to the tensors
        if num_rows > 1:
            self.size = max(1, num_rows // 2)
            logger.warning(
                "%d rows do not fit into memory: going on with batches of %d", num_rows, self.size
            )
        return None
