"""Count the seconds, tokens and steps that an answer about one image takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from sekd.engines import Answer, Ask, Conversation, Reply
from sekd.engines.driver import ActiveConversation
from sekd.models.chat import TokenIds

Returned = TypeVar("Returned")


class Seconds(NamedTuple):
    """The time of an image."""

    wall: float
    cpu: float

    @property
    def compared(self) -> float:
        """The time that ratios are made of."""
        return self.wall if torch.cuda.is_available() else self.cpu


@dataclass(frozen=True)
class Row:
    """The cost of an image, for one way of answering.

    Attributes:
        together: in each turn, for an image, all of them given to the engine at once.
        alone: in each turn, for an image that is asked about alone.
        computed, cached: tokens of prompts that were computed, and that were not.
        steps: passes of the model that have to wait for each other.
    """

    world: str
    way: str
    together: list[Seconds]
    alone: list[Seconds]
    computed: float
    cached: float
    steps: float

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Row:
        """Read a row that was dumped as JSON."""
        times = {key: [Seconds(*each) for each in content[key]] for key in ("together", "alone")}
        return cls(**{**content, **times})

    def __str__(self) -> str:
        wall, cpu = map(median, zip(*self.together, strict=True))
        wall_alone, cpu_alone = map(median, zip(*self.alone, strict=True))
        return (
            f"{self.world:6}{self.way:34}{1 / wall:9.2f}{cpu:8.3f}{wall_alone:8.3f}{cpu_alone:8.3f}"
            f"{self.computed:9.0f}{self.cached:8.0f}{self.steps:6.1f}"
        )


HEADER = (
    f"{'':40}{'images/s':>9}{'cpu s':>8}{'s alone':>8}{'cpu s':>8}{'computed':>9}{'cached':>8}"
    f"{'steps':>6}"
)


def timed(function: Callable[[], Returned], num_images: int) -> tuple[Seconds, Returned]:
    """Call a function; returns the time of each image, and what the function returned."""
    started = time.monotonic(), time.process_time()
    returned = function()
    wall, cpu = time.monotonic() - started[0], time.process_time() - started[1]
    return Seconds(wall / num_images, cpu / num_images), returned


def led(
    conversation: Conversation[Any], right_options: Mapping[TokenIds, int]
) -> Conversation[int]:
    """Lead a conversation to the right answers, and return the number of its steps.

    Args:
        right_options: prompt -> right option, where the request itself does not know it.
    """
    active, num_steps = ActiveConversation(conversation), 0
    while not active.is_done:
        responses = list((yield active.requests))
        num_steps += max(
            len(response.token_ids) if isinstance(response, Reply) else 1 for response in responses
        )
        for index, (request, response) in enumerate(zip(active.requests, responses, strict=True)):
            if not isinstance(request, Ask) or not isinstance(response, Answer):
                continue
            right = request.right
            if right is None:
                right = right_options.get(request.prompt.token_ids)
            if right is not None:
                logprobs = np.full_like(response.option_logprobs, -20.0)
                logprobs[right] = 0.0
                responses[index] = replace(response, choice=right, option_logprobs=logprobs)
        active.answer(responses)
    return num_steps
