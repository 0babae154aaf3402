"""What asking costs: every request and response of a conversation, counted as it passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TypeVar

from sekd.engines.base import Conversation, Reply, Request, Response, Write
from sekd.errors import SampleError

Result = TypeVar("Result")


@dataclass
class Cost:
    """Counts over some requests.

    Attributes:
        calls: requests to the model.
        prefill_tokens: of prompts, the image expanded, that were computed.
        cached_tokens: the other tokens of the prompts.
        decode_tokens: written ones: one for a letter; of a text its tokens and the stop.
    """

    calls: int = 0
    prefill_tokens: int = 0
    cached_tokens: int = 0
    decode_tokens: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.calls + other.calls,
            self.prefill_tokens + other.prefill_tokens,
            self.cached_tokens + other.cached_tokens,
            self.decode_tokens + other.decode_tokens,
        )

    def to_json(self) -> dict[str, int]:
        """By name."""
        return asdict(self)


def metered(conversation: Conversation[Result]) -> Conversation[tuple[Result, Cost]]:
    """The same conversation, and what it cost."""
    cost = Cost()
    step: Callable[[], Sequence[Request]] = partial(next, conversation)
    while True:
        try:
            requests = step()
        except StopIteration as end:
            return end.value, cost
        try:
            responses = yield requests
        except SampleError as error:
            step = partial(conversation.throw, error)
        else:
            cost += sum(map(_cost_of, requests, responses), Cost())
            step = partial(conversation.send, responses)


def _cost_of(request: Request, response: Response) -> Cost:
    num_written = 1
    if isinstance(request, Write) and isinstance(response, Reply):
        # A text that filled its room had no stop.
        num_written = min(len(response.token_ids) + 1, request.max_new_tokens)
    return Cost(
        calls=1,
        prefill_tokens=response.num_prompt_tokens - response.num_cached_tokens,
        cached_tokens=response.num_cached_tokens,
        decode_tokens=num_written,
    )
