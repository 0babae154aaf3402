"""A batch holds what the model's own processor makes of each whole text with its image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gallery_models import gallery_spec
from PIL import Image

from sekd.config import ModelSpec
from sekd.data.questions import Question
from sekd.data.taxonomy import Taxonomy
from sekd.models import loading
from sekd.models.batching import Batcher, forward_arguments
from sekd.models.chat import Chat, load_chat

FAMILIES = ("llava-next", "gemma3", "mllama", "lfm2-vl", "ernie4.5-vl")


def draw(*size: int) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8))


def load(name: str) -> tuple[ModelSpec, Chat, frozenset[str]]:
    spec = gallery_spec(name)
    arguments = forward_arguments(loading.meta_model(spec))
    return spec, load_chat(spec, subject="organism"), arguments


def turns_of(chat: Chat, questions: list[Question], taxonomy: Taxonomy) -> list[Any]:
    first = chat.first_turn(questions[0], [taxonomy.root])
    return [first, chat.next_turn(first, 1, questions[1])]


@pytest.mark.parametrize("name", FAMILIES)
def test_each_row_equals_the_processors_own(
    name: str, questions: list[Question], taxonomy: Taxonomy
) -> None:
    """Images have other sizes; the second text is longer and holds an earlier answer."""
    _, chat, arguments = load(name)
    turns = turns_of(chat, questions, taxonomy)
    images = [draw(60, 90), draw(112, 56)]
    batch = Batcher(chat, arguments)([turn.token_ids for turn in turns], images, ["a", "b"])
    assert set(batch.inputs) <= arguments
    for row, (turn, image) in enumerate(zip(turns, images, strict=True)):
        bos = chat.tokenizer.bos_token
        has_bos = bos is not None and turn.text.startswith(bos)
        types = {"return_mm_token_type_ids": True} if "mm_token_type_ids" in arguments else {}
        whole = chat.processor(
            text=[turn.text],
            images=[[image]],
            add_special_tokens=not has_bos,
            return_tensors="pt",
            **types,
        )
        length = batch.lengths[row]
        assert whole["input_ids"].shape == (1, length)
        for key in ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids"):
            assert (key in whole) == (key in batch.inputs) or key not in arguments
            if key in whole and key in arguments:
                torch.testing.assert_close(batch.inputs[key][row, :length], whole[key][0])
        if "cross_attention_mask" in whole:
            mask = batch.inputs["cross_attention_mask"][row, :length]
            torch.testing.assert_close(mask, whole["cross_attention_mask"][0])


def test_paligemmas_labels_are_left_out() -> None:
    _, chat, arguments = load("paligemma")
    batch = Batcher(chat, arguments)([chat.plain_prompt("x")], [draw(56, 56)], ["a"])
    assert "labels" in chat.processor(
        text=[chat.image_prefix_text], images=[[draw(56, 56)]], return_tensors="pt"
    )
    assert set(batch.inputs) == {"input_ids", "attention_mask", "token_type_ids", "pixel_values"}


def test_a_prompt_without_the_image_prefix_is_a_fault_of_ours() -> None:
    _, chat, arguments = load("llava-next")
    with pytest.raises(ValueError, match="must begin with the chat's image_prefix_ids"):
        Batcher(chat, arguments)([chat.encode("What is it?")], [draw(56, 56)], ["a"])
