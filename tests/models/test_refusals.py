"""An item that fails alone is set aside; what is no item's fault is raised."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from sekd.errors import ConfigError, FatalError, SampleError
from sekd.models.refusals import find_refused

BATCH_ERROR = RuntimeError("the batch failed")


def works() -> None:
    pass


def fails(error: Exception) -> Callable[[], None]:
    def raise_it() -> None:
        raise error

    return raise_it


def find(
    items: list[Callable[[], None]],
    error: Exception = BATCH_ERROR,
    run_plain: Callable[[], None] = works,
) -> dict[int, str]:
    refused = find_refused(items, error, run=lambda item: item(), run_plain=run_plain)
    return {index: str(reason) for index, reason in refused.items()}


def test_the_items_that_fail_alone_are_refused() -> None:
    items = [works, fails(ZeroDivisionError("division by zero")), works, fails(SampleError("gone"))]
    assert find(items) == {
        1: "the model does not take this image: ZeroDivisionError: division by zero",
        3: "gone",
    }


def test_one_item_is_not_run_again() -> None:
    assert find([fails(AssertionError())]) == {
        0: "the model does not take this image: RuntimeError: the batch failed"
    }


def test_an_error_that_only_the_batch_has_is_raised() -> None:
    with pytest.raises(RuntimeError, match="the batch failed"):
        find([works, works])


def test_where_the_plain_picture_fails_too_the_run_stops() -> None:
    with pytest.raises(FatalError, match="on a plain picture, too: KeyError: 'text'"):
        find([works, fails(ValueError("bad"))], run_plain=fails(KeyError("text")))


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory. Tried"), MemoryError()]
)
def test_a_lack_of_memory_is_no_refusal(error: Exception) -> None:
    with pytest.raises(type(error)):
        find([works, works], error)
    assert find([fails(error), fails(SampleError("gone"))]) == {1: "gone"}


def test_an_error_of_the_set_up_is_raised() -> None:
    with pytest.raises(ConfigError, match="set-up"):
        find([works, fails(ConfigError("set-up"))])
