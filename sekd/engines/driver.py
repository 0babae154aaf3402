"""Drive conversations: the one place that knows how their generators are advanced."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import count, islice
from typing import Generic

from sekd.engines.base import Answer, Ask, Conversation, Prompt, Request, Response, Result, ask
from sekd.errors import SampleError
from sekd.models.chat import Chat
from sekd.models.plain import plain_prompt

_conversation_ids = count()


class ActiveConversation(Generic[Result]):
    """A conversation that has begun.

    Attributes:
        id: number that no other conversation of this process has.
        requests: the requests that wait for their responses; empty when the conversation is done.
        is_done: whether the conversation has ended.
        result: what the conversation returned; it exists only when the conversation is done.
    """

    result: Result

    def __init__(self, conversation: Conversation[Result]) -> None:
        self.id = next(_conversation_ids)
        self.requests: Sequence[Request] = ()
        self.is_done = False
        self._conversation = conversation
        self._advance(partial(next, conversation))

    def answer(self, responses: Sequence[Response]) -> None:
        """Send one response for each of the requests, and take the next requests."""
        self._advance(partial(self._conversation.send, responses))

    def fail(self, error: SampleError) -> None:
        """Raise an error in the conversation in place of all responses.

        Raises:
            SampleError: the same error, if the conversation does not handle it.
        """
        self._advance(partial(self._conversation.throw, error))

    def _advance(self, step: Callable[[], Sequence[Request]]) -> None:
        try:
            self.requests = step()
        except StopIteration as end:
            self.requests = ()
            self.is_done = True
            self.result = end.value


def in_step(conversations: Iterable[Conversation[Result]]) -> Conversation[list[Result]]:
    """Hold several conversations about one image as one: their requests go out together."""
    active = [ActiveConversation(conversation) for conversation in conversations]
    while waiting := [each for each in active if not each.is_done]:
        responses = iter((yield [request for each in waiting for request in each.requests]))
        for each in waiting:
            each.answer(list(islice(responses, len(each.requests))))
    return [each.result for each in active]


def plain_conversation(chat: Chat) -> Conversation[list[Answer]]:
    """Ask twice about the plain picture; the second prompt continues the first."""
    token_ids, image, image_key = plain_prompt(chat)
    half = (len(chat.image_prefix_ids) + len(token_ids)) // 2
    answers = []
    for prompt_ids in (token_ids[:half], token_ids):
        prompt = Prompt(prompt_ids, image, image_key)
        answers += yield from ask([Ask(prompt, chat.letter_ids[:4])])
    return answers


def run_one_by_one(
    conversations: Iterable[Conversation[Result]],
    respond: Callable[[Sequence[Request]], Sequence[Response]],
) -> Iterator[Result]:
    """Drive conversations one after another, for an engine that answers a list of requests at once.

    Args:
        respond: returns one response for each request. A ``SampleError`` that it raises fails the
            conversation.
    """
    for conversation in conversations:
        active = ActiveConversation(conversation)
        while not active.is_done:
            try:
                responses = respond(active.requests)
            except SampleError as error:
                active.fail(error)
            else:
                active.answer(responses)
        yield active.result
