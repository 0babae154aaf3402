"""Costs count what passes between a conversation and its engine."""

from __future__ import annotations

import numpy as np
import pytest

from sekd.analysis.cell_key import CellKey
from sekd.analysis.cost import COST_KEYS, MeanCost, RelativeCost, mean_cost, relate_to_base
from sekd.engines import Answer, Ask, Conversation, Prompt, Reply, Write, ask, write
from sekd.engines.metering import Cost, metered
from sekd.errors import SampleError

PROMPT = Prompt((1, 2, 3), None, "")
LETTER = Answer(0, np.zeros(2, dtype=np.float32), num_prompt_tokens=10, num_cached_tokens=4)
TEXT = Reply((7, 8, 9), num_prompt_tokens=20, num_cached_tokens=0)


def two_letters_and_a_text() -> Conversation[str]:
    answers = yield from ask([Ask(PROMPT, (1, 2)), Ask(PROMPT, (1, 2))])
    reply = yield from write(Write(PROMPT, 100, 0))
    return f"{len(answers)} {reply.token_ids}"


def test_every_request_is_counted_and_passed_on_unchanged() -> None:
    conversation = metered(two_letters_and_a_text())
    assert len(next(conversation)) == 2
    (request,) = conversation.send([LETTER, LETTER])
    assert isinstance(request, Write)
    with pytest.raises(StopIteration) as end:
        conversation.send([TEXT])
    result, cost = end.value.value
    assert result == "2 (7, 8, 9)"
    assert cost == Cost(
        calls=3, prefill_tokens=6 + 6 + 20, cached_tokens=4 + 4, decode_tokens=1 + 1 + 4
    )


def test_a_text_of_the_longest_length_has_no_stop_token() -> None:
    conversation = metered(write(Write(PROMPT, 3, 0)))
    next(conversation)
    with pytest.raises(StopIteration) as end:
        conversation.send([TEXT])
    assert end.value.value[1].decode_tokens == 3


def test_a_refused_request_reaches_the_conversation_and_costs_nothing() -> None:
    def asks_again() -> Conversation[int]:
        try:
            yield from ask([Ask(PROMPT, (1, 2))])
        except SampleError:
            answers = yield from ask([Ask(PROMPT, (1,))])
            return len(answers)
        return 0

    conversation = metered(asks_again())
    next(conversation)
    (request,) = conversation.throw(SampleError("too long"))
    assert request.option_ids == (1,)
    with pytest.raises(StopIteration) as end:
        conversation.send([LETTER])
    assert end.value.value == (1, Cost(1, 6, 4, 1))


def test_an_error_of_the_conversation_is_raised() -> None:
    conversation = metered(ask([Ask(PROMPT, (1,))]))
    next(conversation)
    with pytest.raises(SampleError, match="too long"):
        conversation.throw(SampleError("too long"))


def cost_of(prefill_tokens: float, seconds: float) -> MeanCost:
    return MeanCost(1.0, prefill_tokens, 0.0, 10.0, seconds)


def test_costs_are_multiples_of_the_bases() -> None:
    costs = {
        CellKey("d", "base", "joint"): cost_of(90, 2.0),
        CellKey("d", "base", "joint", "circular"): cost_of(390, 8.0),
        CellKey("d", "student", "conditioned"): cost_of(290, 1.0),
        CellKey("e", "student", "conditioned"): cost_of(290, 1.0),
        CellKey("f", "base", "descent"): cost_of(390, 2.0),
        CellKey("f", "base", "open"): cost_of(190, 1.0),
        CellKey("f", "student", "open"): cost_of(90, 0.5),
    }
    related = relate_to_base(costs)
    assert list(related) == list(costs)
    assert [cost.relative for cost in related.values()] == [
        RelativeCost(1.0, 1.0),
        RelativeCost(4.0, 4.0),
        RelativeCost(3.0, 0.5),
        None,
        RelativeCost(2.0, 2.0, "open"),
        RelativeCost(1.0, 1.0, "open"),
        RelativeCost(0.5, 0.5, "open"),
    ]


def test_means_are_over_all_shards() -> None:
    stats = {key: [0.0, 0.0] for key in ("prefill_tokens", "cached_tokens", "decode_tokens")}
    mean = mean_cost({"calls": [3, 5], "seconds": [1.0, 0.0], **stats}, 4)
    assert mean == MeanCost(2.0, 0.0, 0.0, 0.0, 0.25)


def test_the_latency_is_that_of_the_first_shard_if_it_was_measured() -> None:
    stats = {key: [1.0] for key in COST_KEYS}
    assert mean_cost({**stats, "latency": [0.5]}, 1).latency == 0.5
    assert mean_cost({**stats, "latency": []}, 1).latency is None
