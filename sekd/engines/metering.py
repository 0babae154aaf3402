"""Count what a conversation costs: its calls, and the tokens computed, cached and written."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sekd.engines.base import Conversation, Reply, Request, Response, Result, Write
from sekd.engines.driver import ActiveConversation
from sekd.errors import SampleError


@dataclass
class Cost:
    """Sums over requests.

    Attributes:
        calls: requests to the model.
        prefill_tokens: prompt tokens, with the image expanded, that were computed.
        cached_tokens: the other prompt tokens.
        decode_tokens: written tokens: one for a letter; for a text its tokens and the stop token.
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
        """Return the counts by name."""
        return asdict(self)


def metered(conversation: Conversation[Result]) -> Conversation[tuple[Result, Cost]]:
    """Pass a conversation on, and return its cost with its result."""
    cost = Cost()
    active = ActiveConversation(conversation)
    while not active.is_done:
        try:
            responses = yield active.requests
        except SampleError as error:
            active.fail(error)
        else:
            cost += sum(map(_cost_of, active.requests, responses), Cost())
            active.answer(responses)
    return active.result, cost


def _cost_of(request: Request, response: Response) -> Cost:
    num_written = 1
    if isinstance(request, Write) and isinstance(response, Reply):
        # A text that reached max_new_tokens has no stop token.
        num_written = min(len(response.token_ids) + 1, request.max_new_tokens)
    return Cost(
        calls=1,
        prefill_tokens=response.num_prompt_tokens - response.num_cached_tokens,
        cached_tokens=response.num_cached_tokens,
        decode_tokens=num_written,
    )
