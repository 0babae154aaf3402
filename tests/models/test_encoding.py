"""Token ids of whole texts, and the characters that they stand for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from gallery_tokenizers import available_kinds, build_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from sekd.models.encoding import TextEncoder

TEXT = "<image>\nWhich class?\nA. aves\nB. Café au lait\nAnswer: B. Café au lait</s>"
KINDS = available_kinds()


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return build_tokenizer(
        str(request.param), ["<image>", "</s>"], adds_bos=request.param != "qwen"
    )


def without_offsets(tokenizer: Any) -> SimpleNamespace:
    """The same tokenizer as one that is written in Python, which knows no offsets."""
    return SimpleNamespace(is_fast=False, bos_token=tokenizer.bos_token, encode=tokenizer.encode)


def test_ids_are_those_of_the_whole_text(tokenizer: Any) -> None:
    assert TextEncoder(tokenizer).encode(TEXT) == tuple(tokenizer(TEXT)["input_ids"])


def test_the_special_token_in_front_is_written_once(tokenizer: Any) -> None:
    encoder = TextEncoder(tokenizer)
    start = tokenizer.bos_token or ""
    assert encoder.encode(start + TEXT).count(tokenizer.bos_token_id) == bool(start)
    assert encoder.encode(TEXT)[: len(encoder.prefix_ids)] == encoder.prefix_ids
    assert encoder.encode("") == ()


@pytest.mark.parametrize("has_offsets", [True, False], ids=["fast", "slow"])
def test_an_answers_tokens_are_found_by_its_characters(tokenizer: Any, has_offsets: bool) -> None:
    encoder = TextEncoder(tokenizer if has_offsets else without_offsets(tokenizer))
    start = TEXT.index(" B. Café au lait</s>")
    letter = start + 1
    encoded = encoder.encode_with_places(TEXT, [start, letter, letter + 1, len(TEXT)])
    assert encoded.token_ids == tuple(tokenizer(TEXT)["input_ids"])
    position = encoded.index_of(letter)
    assert tokenizer.decode([encoded.token_ids[position]]).strip() == "B"
    is_answer = encoded.is_within([(start, len(TEXT))])
    words = [i for i, own in zip(encoded.token_ids, is_answer, strict=True) if own]
    assert tokenizer.decode(words).strip() == "B. Café au lait</s>"
    assert encoded.index_of(len(TEXT)) is None


def test_a_token_across_a_border_counts_with_what_is_behind() -> None:
    if "qwen" not in KINDS:
        pytest.skip("no package with the qwen vocabulary is installed")
    encoder = TextEncoder(without_offsets(build_tokenizer("qwen")))
    letter = len("Assistant:")
    encoded = encoder.encode_with_places("Assistant:C", [letter])
    assert encoded.starts[-1] == letter
    assert build_tokenizer("qwen").decode([encoded.token_ids[-1]]) == ":C"


@pytest.mark.skipif("mistral_v1" not in KINDS, reason="mistral_common is not installed")
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="▁"), max_size=8)))
def test_every_character_has_a_token_or_none_before_it(parts: list[str]) -> None:
    """Tokens stand in the order of the text, and none reaches beyond it."""
    text = "".join(parts)
    tokenizer = build_tokenizer("mistral_v1", size=2000)
    encoded = TextEncoder(tokenizer).encode_with_places(text, [])
    assert encoded.token_ids == TextEncoder(tokenizer).encode(text)
    assert all(
        0 <= start <= end <= len(text)
        for start, end in zip(encoded.starts, encoded.ends, strict=True)
    )
    assert list(encoded.starts) == sorted(encoded.starts)
