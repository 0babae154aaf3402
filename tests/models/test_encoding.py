"""Token ids of whole texts, and the characters that they stand for."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
from gallery_tokenizers import available_kinds, build_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

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


SPECIAL = ["<image>", "</s>", "<s2>"]
words = st.text(st.sampled_from("Ab c.\n▁é鷗<"), max_size=6)


@settings(max_examples=200, deadline=None)
@given(parts=st.lists(st.tuples(words, st.sampled_from(SPECIAL)), max_size=6), end=words)
def test_a_text_that_is_cut_at_special_tokens_has_the_ids_of_the_whole(
    kept: list[tuple[Any, TextEncoder]], parts: list[tuple[str, str]], end: str
) -> None:
    text = "".join(word + token for word, token in parts) + end
    for tokenizer, encoder in kept:
        assert encoder.encode_part(text) == tuple(tokenizer.encode(text, add_special_tokens=False))
        expected = tuple(tokenizer(text)["input_ids"]) if text else ()
        if not text.startswith(str(tokenizer.bos_token)):
            assert encoder.encode(text) == expected


@pytest.fixture(scope="module")
def kept() -> list[tuple[Any, TextEncoder]]:
    """Each tokenizer, in both forms of SentencePiece, with an encoder that cuts and keeps."""
    pairs = []
    for kind, legacy in product(KINDS, (True, False)):
        tokenizer = build_tokenizer(
            kind, SPECIAL, size=3000, adds_bos=kind != "qwen", legacy=legacy
        )
        pairs.append((tokenizer, TextEncoder(tokenizer, "<image>\nWhich?</s>Answer: A")))
    return pairs


def test_a_piece_between_special_tokens_is_encoded_once(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = TextEncoder(tokenizer, TEXT)
    encoded: list[str] = []
    encode = tokenizer.encode

    def record(text: str, **options: Any) -> list[int]:
        encoded.append(text)
        return list(encode(text, **options))

    monkeypatch.setattr(tokenizer, "encode", record)
    assert encoder.encode(TEXT + " And B.")[:-1] != encoder.encode(TEXT)
    assert encoded == ["</s> And B."]  # the rest is in the example


@pytest.mark.parametrize("condition", ["lstrip", "single_word", "normalized"])
def test_a_token_that_looks_at_what_is_before_it_cuts_nothing(
    tokenizer: Any, condition: str
) -> None:
    tokenizer.add_tokens([AddedToken("<end>", special=False, **{condition: True})])
    encoder = TextEncoder(tokenizer, "Which? <end>Answer")
    for text in ("Which  <end> A", "Which?<end>", "x<end>y", " <end>"):
        assert encoder.encode(text) == tuple(tokenizer(text)["input_ids"])


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
