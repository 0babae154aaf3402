"""Build model inputs from token ids and images, in batches that fit into memory."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from sekd.errors import ConfigError, SampleError, in_one_line
from sekd.models.chat import Chat, TokenIds
from sekd.models.loading import free_memory
from sekd.models.plain import plain_image
from sekd.models.refusals import is_out_of_memory

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_TOKEN_INPUTS = (
    "input_ids",
    "attention_mask",
    "cross_attention_mask",
    "token_type_ids",
    "mm_token_type_ids",
    "moe_mm_token_type_ids",
)
"""Inputs with one entry per token. They are known by name, because the shape of pixels may equal
that of tokens by chance."""

# Shapes: B batch, L padded length, T tokens of a part of a row.


@dataclass(frozen=True)
class Batch:
    """Inputs of ``model.forward``.

    Attributes:
        inputs: ``input_ids`` and ``attention_mask``, both int64 [B, L], and what the processor
            makes from the images: tensors, with few exceptions.
        shifts: per row, the number of tokens that the image takes beyond its one placeholder.
            Position p of the unexpanded ids is position p + shift of ``input_ids`` if the padding
            is on the right.
        lengths: per row, the number of tokens without padding.
    """

    inputs: dict[str, Any]
    shifts: tuple[int, ...]
    lengths: tuple[int, ...]


def forward_arguments(model: nn.Module) -> frozenset[str]:
    """Return the names of the arguments that the model's ``forward`` takes.

    ``labels`` is none of them: with it the model would compute a loss of its own.
    """
    return frozenset(inspect.signature(model.forward).parameters) - {"labels"}


class ImageRefusedError(SampleError):
    """The model's processor does not take an image, but it does take others."""


class Batcher:
    """Expands each image placeholder as the model's processor does, and pads.

    It keeps the processed images of its last call, because the next turn of a dialogue comes with
    the same images.

    Args:
        arguments: names of the arguments of the model's ``forward``, see
            :func:`forward_arguments`; of what the processor makes, only these are passed on.
            Without a model there are the token ids and their mask alone.
    """

    def __init__(
        self, chat: Chat, arguments: Collection[str] = ("input_ids", "attention_mask")
    ) -> None:
        self._chat = chat
        self._arguments = arguments
        self._last: tuple[tuple[str, ...], dict[str, Any]] | None = None
        self._takes_plain_image = False

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
            ImageRefusedError: if all rows have one image, and the processor does not take it. With
                several images the processor's own error is raised.
            ConfigError: if the processor does not take a plain drawn image either.
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
            bos_ids = self._missing_bos(prefix_ids, prefixes["input_ids"][index][is_token])
            shifts.append(len(bos_ids) + int(is_token.sum()) - len(prefix_ids))
            for name in [name for name in _TOKEN_INPUTS if name in prefixes]:
                prefix = prefixes[name][index][is_token]
                row = _row_of(name, bos_ids, prefix, text_ids)
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

    def _missing_bos(self, prefix_ids: TokenIds, expanded_ids: Tensor) -> Tensor:
        """The special tokens in front of a prompt that its expansion by the processor lacks.

        Processors are asked to add none, because one that adds them may add others at the end.
        """
        bos_ids = self._chat.prefix_ids
        if not bos_ids or prefix_ids[: len(bos_ids)] != bos_ids:
            bos_ids = ()
        has_them = tuple(expanded_ids[: len(bos_ids)].tolist()) == bos_ids
        return torch.tensor(() if has_them else bos_ids, dtype=torch.int64)

    @property
    def _pad_id(self) -> int:
        tokenizer = self._chat.tokenizer
        return int(tokenizer.pad_token_id or tokenizer.eos_token_id or 0)

    def _image_prefixes(
        self, image_keys: tuple[str, ...], images: Sequence[Image.Image | None]
    ) -> dict[str, Any]:
        """Let the processor expand the text up to the image, once for each image."""
        if images[0] is None:
            empty = torch.empty(len(image_keys), 0, dtype=torch.int64)
            return {"input_ids": empty, "attention_mask": empty}
        if self._last is not None and self._last[0] == image_keys:
            return self._last[1]
        try:
            prefixes = self._process([image for image in images if image is not None])
        except Exception as error:  # processors raise most kinds: RuntimeError, ZeroDivisionError
            if is_out_of_memory(error) or len(set(image_keys)) > 1:
                raise
            self._check_plain_image()
            assert images[0] is not None
            size = f"{images[0].width}x{images[0].height} pixels"
            raise ImageRefusedError(
                f"the model's processor does not take an image of {size}: "
                f"{in_one_line(error, limit=200)}"
            ) from error
        self._last = (image_keys, prefixes)
        return prefixes

    def _process(self, images: Sequence[Image.Image]) -> dict[str, Any]:
        types: dict[str, Any] = {}
        if "mm_token_type_ids" in self._arguments:
            types["return_mm_token_type_ids"] = True
        inputs = self._chat.processor(
            text=[self._chat.image_prefix_text] * len(images),
            # One list per prompt: processors of several images (Gemma 3, Mllama) would take a flat
            # list for the images of one prompt.
            images=[[image] for image in images],
            padding=True,
            add_special_tokens=False,
            return_tensors="pt",
            **types,
        )
        return {name: value for name, value in inputs.items() if name in self._arguments}

    def _check_plain_image(self) -> None:
        """Raise a ``ConfigError`` if the processor does not even take a plain drawn image."""
        if self._takes_plain_image:
            return
        try:
            self._process([plain_image()])
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise ConfigError(
                f"{self._chat.name}: the model's processor does not take a plain image: "
                f"{in_one_line(error, limit=200)}; check its processor_args"
            ) from error
        self._takes_plain_image = True


def _row_of(name: str, bos_ids: Tensor, prefix: Tensor, text_ids: Tensor) -> Tensor:
    """Extend one input of the text up to the image, which the processor made, to a whole row.

    Args:
        bos_ids: tokens [T] in front of what the processor made.
        prefix: [T, ...], the input as the processor made it.
        text_ids: tokens [T] behind it. Their mask is one and their type is zero; they attend to
            the image as the last token of the prefix does.
    """
    before = prefix.new_zeros(len(bos_ids), *prefix.shape[1:])
    behind = prefix.new_zeros(len(text_ids), *prefix.shape[1:])
    if name == "input_ids":
        before, behind = bos_ids, text_ids
    elif name == "attention_mask":
        before, behind = before + 1, behind + 1
    elif name == "cross_attention_mask":
        behind = behind + prefix[-1:]
    return torch.cat([before, prefix, behind])


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
            if not is_out_of_memory(error):
                raise
        # This is outside of the handler, because the traceback holds references to the tensors.
        free_memory()
        if num_rows > 1:
            self.size = max(1, num_rows // 2)
            logger.warning(
                "%d rows do not fit into memory: going on with batches of %d", num_rows, self.size
            )
        return None


def to_device(inputs: dict[str, Any], model: nn.Module) -> dict[str, Any]:
    """Move inputs to the model's device, and floating-point inputs (pixels) to the model's dtype.

    The dtype is that of a floating-point weight: quantised weights are integers, and the modules
    that see the image are not quantised. Inputs that are no tensors stay as they are.
    """
    weight = next(weight for weight in model.parameters() if weight.is_floating_point())

    def move(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value.to(weight.device, weight.dtype if value.is_floating_point() else value.dtype)

    return {name: move(value) for name, value in inputs.items()}
