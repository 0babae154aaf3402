"""What a teacher or a student is asked, and what every engine gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Prompt:
    """Token ids with one image placeholder, and the image.

    Attributes:
        image_key: the image's SHA-256: the same key means the same pixels, so engines may cache.
    """

    token_ids: tuple[int, ...]
    image: Image.Image
    image_key: str


@dataclass(frozen=True)
class Answer:
    """The next token, chosen among given letters, with the raw distribution behind it.

    Attributes:
        choice: index of the most probable option.
        option_logprobs: float32 [num_options], log-probabilities over the *whole* vocabulary,
            before any restriction to the letters.
        top_ids: int32 [k], most probable tokens, best first.
        top_logprobs: float32 [k].
        num_prompt_tokens: prompt length with the image expanded.
        num_cached_tokens: how many of them were not computed again.
    """

    choice: int
    option_logprobs: NDArray[np.float32]
    top_ids: NDArray[np.int32]
    top_logprobs: NDArray[np.float32]
    num_prompt_tokens: int
    num_cached_tokens: int


@dataclass(frozen=True)
class Reply:
    """A free, greedy generation, the stop token not included."""

    token_ids: tuple[int, ...]
    num_prompt_tokens: int


class Engine(Protocol):
    """A model that answers; the conformance suite holds every implementation to this.

    Ties between options go to the earlier one. A request that the model cannot take raises
    ``SampleError``; a broken engine raises ``FatalError``.
    """

    name: str
    version: str

    def answer(
        self, prompts: Sequence[Prompt], option_ids: Sequence[Sequence[int]], *, top_k: int
    ) -> list[Answer]:
        """One letter per prompt, in order.

        Args:
            option_ids: per prompt, the token ids of its letters.
            top_k: entries of the whole vocabulary to return.
        """
        ...

    def generate(
        self, prompts: Sequence[Prompt], *, max_new_tokens: int, stop_id: int
    ) -> list[Reply]:
        """Greedy text per prompt, in order, up to ``stop_id`` or an end-of-sequence token."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...
