"""Find out which items of a failed batch are at fault.

An image that a model does not take must set aside its own sample and no other. A fault of the
model, of its set-up or of the program, and a lack of memory, must not look like bad images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from accelerate.utils.memory import should_reduce_batch_size

from sekd.errors import FatalError, SampleError, SekdError, in_one_line

Item = TypeVar("Item")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out."""
    return isinstance(error, MemoryError) or bool(should_reduce_batch_size(error))


def find_refused(
    items: Sequence[Item],
    error: Exception,
    *,
    run: Callable[[Item], object],
    run_plain: Callable[[], object],
) -> dict[int, SampleError]:
    """Run each item of a failed batch alone, to find those that the model does not take.

    Args:
        error: what the batch failed with.
        run: runs one item alone, as the batch was run. An item that does not fit into memory alone
            is not counted as refused: running the rest again will show it.
        run_plain: runs the plain picture (:mod:`sekd.models.plain`) in the same way.

    Returns:
        Index of the item -> why it cannot be used; at least one.

    Raises:
        Exception: the error of the batch, if memory ran out or no item fails alone.
        FatalError: if the plain picture fails, too, so that the fault is not the items'.
    """
    if is_out_of_memory(error):
        raise error
    errors = {0: error} if len(items) == 1 else _errors_alone(items, run)
    if not errors:
        raise error
    return {index: _as_sample_error(each, run_plain) for index, each in errors.items()}


def _errors_alone(items: Sequence[Item], run: Callable[[Item], object]) -> dict[int, Exception]:
    errors: dict[int, Exception] = {}
    for index, item in enumerate(items):
        try:
            run(item)
        except Exception as error:  # noqa: BLE001  whose fault it is shows later
            if not is_out_of_memory(error):
                errors[index] = error
    return errors


def _as_sample_error(error: Exception, run_plain: Callable[[], object]) -> SampleError:
    if isinstance(error, SampleError):
        return error
    if isinstance(error, SekdError):
        raise error
    try:
        run_plain()
    except Exception as plain_error:
        if is_out_of_memory(plain_error):
            raise
        raise FatalError(
            f"the model fails on a plain picture, too: {in_one_line(plain_error, limit=200)}"
        ) from error
    return SampleError(f"the model does not take this image: {in_one_line(error, limit=200)}")
