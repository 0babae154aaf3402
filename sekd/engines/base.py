"""What a teacher or a student is asked, and what every engine gives back.

An image's whole business with a model is a *conversation*: a generator that yields the requests it
wants answered and is sent their responses, until it returns. An engine drives many of them at once
and keeps what it has computed for a conversation's last requests at least, so that a request which
begins as one of those did costs its new tokens only.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Prompt:
    """Token ids with one image placeholder, and the image.

    Attributes:
        image: ``None`` where ``token_ids`` hold no placeholder.
        image_key: the image's SHA-256: the same key means the same pixels, so engines may cache.
    """

    token_ids: tuple[int, ...]
    image: Image.Image | None
    image_key: str


@dataclass(frozen=True)
class Ask:
    """A request for the next token, chosen among given letters; its response is an :class:`Answer`.

    Attributes:
        option_ids: token ids of the letters.
    """

    prompt: Prompt
    option_ids: tuple[int, ...]


@dataclass(frozen=True)
class Answer:
    """The chosen letter, with the raw distribution behind it.

    Attributes:
        choice: index of the most probable option; of equals, the first.
        option_logprobs: float32 [num_options], log-probabilities over the *whole* vocabulary,
            before any restriction to the letters.
        num_prompt_tokens: prompt length with the image expanded.
        num_cached_tokens: how many of them were not computed again.
    """

    choice: int
    option_logprobs: NDArray[np.float32]
    num_prompt_tokens: int
    num_cached_tokens: int


@dataclass(frozen=True)
class Write:
    """A request for greedy text; its response is a :class:`Reply`.

    Attributes:
        stop_id: ends the text, as an end-of-sequence token does.
    """

    prompt: Prompt
    max_new_tokens: int
    stop_id: int


@dataclass(frozen=True)
class Reply:
    """Text, the stop token not included; prompt tokens are counted as in :class:`Answer`."""

    token_ids: tuple[int, ...]
    num_prompt_tokens: int
    num_cached_tokens: int


Result = TypeVar("Result")
Request: TypeAlias = Ask | Write
Response: TypeAlias = Answer | Reply
Conversation: TypeAlias = Generator[Sequence[Request], Sequence[Response], Result]


def ask(requests: Sequence[Ask]) -> Conversation[list[Answer]]:
    """Part of a conversation: ``answers = yield from ask([...])``, one for each request."""
    responses = yield requests
    answers = [response for response in responses if isinstance(response, Answer)]
    assert len(answers) == len(requests)
    return answers


def write(request: Write) -> Conversation[Reply]:
    """Part of a conversation: ``reply = yield from write(...)``."""
    (reply,) = yield [request]
    assert isinstance(reply, Reply)
    return reply


class Engine(Protocol):
    """A model that answers; the conformance suite holds every implementation to this."""

    name: str
    version: str

    def run(self, conversations: Iterable[Conversation[Result]]) -> Iterator[Result]:
        """Drive conversations to their end; yields what they return, in the order they end.

        A run begins with nothing cached, so that what it counts is its own.

        They are drawn as there is room for them, so that a lazy iterable opens few images at a
        time. A request that the model cannot take raises ``SampleError`` *inside* its conversation.

        Raises:
            FatalError: the engine is broken.
        """
        ...

    def close(self) -> None:
        """Free the model."""
        ...
