"""Conversations are advanced the same way by every engine."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sekd.engines import Conversation, Prompt, Reply, Write, write
from sekd.engines.base import Request
from sekd.engines.driver import ActiveConversation, run_one_by_one
from sekd.errors import SampleError


def request(*token_ids: int) -> Write:
    return Write(Prompt(token_ids, None, ""), max_new_tokens=1, stop_id=0)


def echo(requests: Sequence[Request]) -> list[Reply]:
    """Reply with the prompt; refuse an empty one."""
    if any(not each.prompt.token_ids for each in requests):
        raise SampleError("empty prompt")
    return [Reply(each.prompt.token_ids, 0, 0) for each in requests]


def two_turns(number: int) -> Conversation[int | str]:
    try:
        first = yield from write(request(number))
        second = yield from write(request(*first.token_ids, 1) if number else request())
    except SampleError as error:
        return str(error)
    return sum(second.token_ids)


def no_turn() -> Conversation[str]:
    return "nothing to ask"
    yield []


def test_results_come_in_the_order_of_the_conversations() -> None:
    conversations = [two_turns(3), no_turn(), two_turns(0), two_turns(5)]
    results = list(run_one_by_one(conversations, echo))
    assert results == [4, "nothing to ask", "empty prompt", 6]


def test_an_error_that_a_conversation_does_not_handle_is_raised() -> None:
    with pytest.raises(SampleError, match="empty prompt"):
        list(run_one_by_one([write(request())], echo))


def test_an_active_conversation_holds_its_requests_until_it_is_done() -> None:
    active = ActiveConversation(two_turns(3))
    assert active.requests == [request(3)]
    active.answer(echo(active.requests))
    assert active.requests == [request(3, 1)]
    assert not active.is_done
    active.answer(echo(active.requests))
    assert active.is_done
    assert active.requests == ()
    assert active.result == 4


def test_active_conversations_have_ids_of_their_own() -> None:
    assert ActiveConversation(no_turn()).id != ActiveConversation(no_turn()).id
