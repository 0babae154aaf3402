"""The requests and replies of engines, and the protocol of every engine.

A *conversation* is a generator of requests about one image: it yields the requests that it wants
answered, is sent their responses, and so on until it returns. An engine drives many conversations
at once. It keeps the keys and values of at least the last requests of each conversation, so that a
request that begins like one of them costs only its new tokens.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sekd.config import ModelSpec
from sekd.models.chat import Chat


@dataclass(frozen=True)
class Prompt:
    """Token ids with one image placeholder, and the image.

    Attributes:
        image: ``None`` if ``token_ids`` hold no placeholder.
        image_key: SHA-256 of the image. The same key means the same pixels, so engines may cache.
    """

    token_ids: tuple[int, ...]
    image: Image.Image | None
    image_key: str


@dataclass(frozen=True)
class Ask:
    """A request for the most probable of some letters; its response is an :class:`Answer`.

    Attributes:
        option_ids: token ids of the letters.
        right: index of the right option, where the sample has a label. No model is told; `sekd
            plan` rehearses with it a teacher that answers right.
    """

    prompt: Prompt
    option_ids: tuple[int, ...]
    right: int | None = None


@dataclass(frozen=True)
class Answer:
    """The most probable letter, with the log-probabilities of all letters.

    Attributes:
        choice: index of the most probable option; the first of equal ones.
        option_logprobs: float32 [num_options], log-probabilities over the *whole* vocabulary,
            before any restriction to the letters.
        num_prompt_tokens: length of the prompt with the image expanded.
        num_cached_tokens: the number of those tokens that were not computed again.

    Raises:
        FloatingPointError: if a log-probability is not finite; the choice would be the first letter
            whatever the image shows.
    """

    choice: int
    option_logprobs: NDArray[np.float32]
    num_prompt_tokens: int
    num_cached_tokens: int

    def __post_init__(self) -> None:
        if not np.isfinite(self.option_logprobs).all():
            values = ", ".join(f"{value:g}" for value in self.option_logprobs)
            raise FloatingPointError(
                f"log-probabilities of the options are not finite ({values}); weights may be "
                "damaged, or model.dtype too narrow"
            )


@dataclass(frozen=True)
class Write:
    """A request for greedy text; its response is a :class:`Reply`.

    Attributes:
        stop_id: token that ends the text, as an end-of-sequence token does.
    """

    prompt: Prompt
    max_new_tokens: int
    stop_id: int


@dataclass(frozen=True)
class Reply:
    """The text without its stop token; prompt tokens are counted as in :class:`Answer`."""

    token_ids: tuple[int, ...]
    num_prompt_tokens: int
    num_cached_tokens: int


Result = TypeVar("Result")
Request: TypeAlias = Ask | Write
Response: TypeAlias = Answer | Reply
Conversation: TypeAlias = Generator[Sequence[Request], Sequence[Response], Result]


def ask(requests: Sequence[Ask]) -> Conversation[list[Answer]]:
    """Get an answer for each request; use it as ``answers = yield from ask([...])``."""
    responses = yield requests
    answers = [response for response in responses if isinstance(response, Answer)]
    assert len(answers) == len(requests)
    return answers


def write(request: Write) -> Conversation[Reply]:
    """Get the reply to one request; use it as ``reply = yield from write(...)``."""
    (reply,) = yield [request]
    assert isinstance(reply, Reply)
    return reply


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """Everything that an engine is opened with.

    Attributes:
        chat: the chat of the model; only its text up to the image matters to an engine.
        adapter: PEFT adapter directory to answer with, ``None`` for the base model.
        batch_size: rows that the transformers engine puts through the model together; vLLM takes
            as many as its cache holds.
        engine_args: arguments of the engine's own library.
    """

    model: ModelSpec
    chat: Chat
    adapter: Path | None = None
    batch_size: int = 1
    engine_args: Mapping[str, Any] = field(default_factory=dict)


class Engine(Protocol):
    """A model that answers; the conformance suite tests every implementation."""

    name: str
    version: str

    def run(self, conversations: Iterable[Conversation[Result]]) -> Iterator[Result]:
        """Drive conversations to their end; yields their results, in the order in which they end.

        A run begins with an empty cache, so that its token counts depend on nothing before it.

        Conversations are drawn when there is room for them, so that a lazy iterable opens few
        images at a time. A request that the model cannot take raises ``SampleError`` *inside* its
        conversation.

        Raises:
            FatalError: if the engine is broken.
        """
        ...

    def close(self) -> None:
        """Free the model."""
        ...


def eos_token_ids(eos_token_id: int | list[int] | None) -> list[int]:
    """List the end-of-sequence ids of a generation config, which holds one, several or none."""
    if eos_token_id is None:
        return []
    return eos_token_id if isinstance(eos_token_id, list) else [eos_token_id]
