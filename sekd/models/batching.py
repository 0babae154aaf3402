"""Model inputs from token ids and images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from sekd.models.chat import Chat, TokenIds

# Shapes: B batch, L padded length.


@dataclass(frozen=True)
class Batch:
    """Inputs of ``model.forward``.

    Attributes:
        inputs: ``input_ids`` and ``attention_mask`` int64 [B, L], and what the processor makes of
            the images.
        shifts: per row, how many tokens the image takes beyond its one placeholder: position p of
            the unexpanded ids is position p + shift of ``input_ids`` (padding on the right).
        lengths: per row, tokens without padding.
    """

    inputs: dict[str, Tensor]
    shifts: tuple[int, ...]
    lengths: tuple[int, ...]


class Batcher:
    """Expands each image placeholder as the model's processor does, and pads.

    The images of the last call are kept, because a dialogue comes back with the same ones.
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
            token_ids: per row, beginning with the chat's head up to the image placeholder.
            images: all of them ``None`` for prompts without a placeholder.
            image_keys: per row; equal keys mean equal images.
        """
        heads = self._heads(tuple(image_keys), images)
        head_ids = self._chat.head_ids if images[0] is not None else ()
        num_head = len(head_ids)
        rows: dict[str, list[Tensor]] = {}
        shifts = []
        for index, ids in enumerate(token_ids):
            if ids[:num_head] != head_ids:
                raise ValueError("a prompt must begin with the chat template's head and its image")
            tail = torch.tensor(ids[num_head:], dtype=torch.int64)
            is_token = heads["attention_mask"][index].bool()
            shifts.append(int(is_token.sum()) - num_head)
            for key, values in heads.items():
                if values.shape != heads["input_ids"].shape:
                    continue
                # Masks continue with ones, token types with zeros: what follows is text.
                rest = {"input_ids": tail, "attention_mask": torch.ones_like(tail)}
                row = torch.cat([values[index][is_token], rest.get(key, torch.zeros_like(tail))])
                rows.setdefault(key, []).append(row)
        lengths = tuple(len(row) for row in rows["input_ids"])
        padded = {
            key: pad_sequence(
                row,
                batch_first=True,
                padding_value=self._pad_id if key == "input_ids" else 0,
                padding_side=padding_side,
            )
            for key, row in rows.items()
        }
        return Batch({**heads, **padded}, tuple(shifts), lengths)

    @property
    def _pad_id(self) -> int:
        tokenizer = self._chat.tokenizer
        return int(tokenizer.pad_token_id or tokenizer.eos_token_id or 0)

    def _heads(
        self, keys: tuple[str, ...], images: Sequence[Image.Image | None]
    ) -> dict[str, Tensor]:
        if images[0] is None:
            nothing = torch.empty(len(keys), 0, dtype=torch.int64)
            return {"input_ids": nothing, "attention_mask": nothing}
        if self._last is not None and self._last[0] == keys:
            return self._last[1]
        types: dict[str, Any] = {}
        if self._with_token_types:
            types["return_mm_token_type_ids"] = True
        heads = self._chat.processor(
            text=[self._chat.head_text] * len(images),
            images=list(images),
            padding=True,
            add_special_tokens=False,
            return_tensors="pt",
            **types,
        )
        self._last = (keys, dict(heads))
        return self._last[1]


def to_device(inputs: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Move inputs to the model's device; pictures take the model's dtype.

    Quantised weights are integers, and what sees the image is not quantised.
    """
    weight = next(weight for weight in model.parameters() if weight.is_floating_point())
    return {
        key: value.to(weight.device, weight.dtype if value.is_floating_point() else value.dtype)
        for key, value in inputs.items()
    }
