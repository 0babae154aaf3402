"""Build model inputs from token ids and images, in batches that fit into memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from accelerate.utils.memory import should_reduce_batch_size
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from sekd.models.chat import Chat, TokenIds
from sekd.models.loading import free_memory

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

# Shapes: B batch, L padded length.


@dataclass(frozen=True)
class Batch:
    """Inputs of ``model.forward``.

    Attributes:
        inputs: ``input_ids`` and ``attention_mask``, both int64 [B, L], and the tensors that the
            processor makes from the images.
        shifts: per row, the number of tokens that the image takes beyond its one placeholder.
            Position p of the unexpanded ids is position p + shift of ``input_ids`` if the padding
            is on the right.
        lengths: per row, the number of tokens without padding.
    """

    inputs: dict[str, Tensor]
    shifts: tuple[int, ...]
    lengths: tuple[int, ...]


class Batcher:
    """Expands each image placeholder as the model's processor does, and pads.

    It keeps the processed images of its last call, because the next turn of a dialogue comes with
    the same images.
    """

    def __init__(self, chat: Chat, *, with_token_types: bool) -> None:
        self._chat = chat
        self._with_token_types = with_token_types
        self._last: tuple[tuple[str, ...], dict[str, Tensor]] | None = None

    def __call__(
        self,
        token_ids: Sequence[TokenIds],
        images: Sequence[Image.Image | None],
        image_keys: Sequence[str],
        *,
        padding_side: Literal["left", "right"] = "right",
    ) -> Batch:
        """Build one batch.

        Args:
            token_ids: one sequence per row. With an image it begins with the chat's
                ``image_prefix_ids``.
            images: one image per row, or all of them ``None`` for prompts without a placeholder.
            image_keys: one key per row; equal keys mean equal images.

        Raises:
            ValueError: if a prompt with an image does not begin with ``image_prefix_ids``.
        """
        prefixes = self._image_prefixes(tuple(image_keys), images)
        prefix_ids = self._chat.image_prefix_ids if images[0] is not None else ()
        rows: dict[str, list[Tensor]] = {}
        shifts = []
        for index, row_ids in enumerate(token_ids):
            if row_ids[: len(prefix_ids)] != prefix_ids:
                raise ValueError("a prompt must begin with the chat's image_prefix_ids")
            text_ids = torch.tensor(row_ids[len(prefix_ids) :], dtype=torch.int64)
            is_token = prefixes["attention_mask"][index].bool()
            shifts.append(int(is_token.sum()) - len(prefix_ids))
            # The prefix is followed by text: its mask is one, its token type is zero.
            text = {"input_ids": text_ids, "attention_mask": torch.ones_like(text_ids)}
            for name, values in prefixes.items():
                if values.shape != prefixes["input_ids"].shape:
                    continue  # pixels, for instance
                text_values = text.get(name, torch.zeros_like(text_ids))
                row = torch.cat([values[index][is_token], text_values])
                rows.setdefault(name, []).append(row)
        lengths = tuple(len(row) for row in rows["input_ids"])
        padded = {
            name: pad_sequence(
                values,
                batch_first=True,
                padding_value=self._pad_id if name == "input_ids" else 0,
                padding_side=padding_side,
            )
            for name, values in rows.items()
        }
        return Batch({**prefixes, **padded}, tuple(shifts), lengths)

    @property
    def _pad_id(self) -> int:
        tokenizer = self._chat.tokenizer
        return int(tokenizer.pad_token_id or tokenizer.eos_token_id or 0)

    def _image_prefixes(
        self, image_keys: tuple[str, ...], images: Sequence[Image.Image | None]
    ) -> dict[str, Tensor]:
        """Let the processor expand the text up to the image, once for each image."""
        if images[0] is None:
            empty = torch.empty(len(image_keys), 0, dtype=torch.int64)
            return {"input_ids": empty, "attention_mask": empty}
        if self._last is not None and self._last[0] == image_keys:
            return self._last[1]
        types: dict[str, Any] = {}
        if self._with_token_types:
            types["return_mm_token_type_ids"] = True
        prefixes = self._chat.processor(
            text=[self._chat.image_prefix_text] * len(images),
            images=list(images),
            padding=True,
            add_special_tokens=False,
            return_tensors="pt",
            **types,
        )
        self._last = (image_keys, dict(prefixes))
        return self._last[1]


class AdaptiveBatchSize:
    """The number of rows that go through the model together.

    It is halved for good when a batch does not fit into memory.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def attempt(self, run: Callable[[], Result], num_rows: int) -> Result | None:
        """Return what ``run`` returns, or ``None`` if its ``num_rows`` do not fit into memory."""
        try:
            return run()
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
        # This is outside of the handler, because the traceback holds references to the tensors.
        free_memory()
        if num_rows > 1:
            self.size = max(1, num_rows // 2)
            logger.warning(
                "%d rows do not fit into memory: going on with batches of %d", num_rows, self.size
            )
        return None


def to_device(inputs: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Move inputs to the model's device, and floating-point inputs (pixels) to the model's dtype.

    The dtype is that of a floating-point weight: quantised weights are integers, and the modules
    that see the image are not quantised.
    """
    weight = next(weight for weight in model.parameters() if weight.is_floating_point())
    return {
        name: value.to(weight.device, weight.dtype if value.is_floating_point() else value.dtype)
        for name, value in inputs.items()
    }
