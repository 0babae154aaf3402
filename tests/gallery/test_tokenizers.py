"""The gallery's tokenizers write what the packages that own their vocabularies write."""

from __future__ import annotations

import string
from collections.abc import Callable

import pytest
from gallery_tokenizers import BYTE_LEVEL, SENTENCEPIECE, TEKKEN, build_tokenizer, tokenizer_file
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

TEXTS = [
    "C. cock",
    " C",
    "C",
    "phylum: B. chordata\nclass: A. aves",
    "What is the class of the organism?\n\nA. Café au lait 2024\tB. 鷗",
]
LETTERS = string.ascii_uppercase
KINDS = [*BYTE_LEVEL, *SENTENCEPIECE, *TEKKEN, "deepseek"]
Encode = Callable[[str], list[int]]


def skip_without(kind: str) -> str:
    path = tokenizer_file(kind)
    if path is None:
        pytest.skip(f"no package with the {kind} vocabulary is installed")
    return str(path)


def reference(kind: str) -> Encode:
    path = skip_without(kind)
    if kind == "qwen":
        tiktoken = pytest.importorskip("tiktoken")
        ranks = pytest.importorskip("tiktoken.load").load_tiktoken_bpe(path)
        encoding = tiktoken.Encoding(
            kind, pat_str=PRETOKENIZE_REGEX, mergeable_ranks=ranks, special_tokens={}
        )
        return lambda text: [*encoding.encode(text)]
    if kind in SENTENCEPIECE:
        model = pytest.importorskip("sentencepiece").SentencePieceProcessor(model_file=path)
        return lambda text: [*model.encode(text)]
    module = pytest.importorskip("mistral_common.tokens.tokenizers.tekken")
    tekken = module.Tekkenizer.from_file(path)
    return lambda text: [*tekken.encode(text, bos=False, eos=False)]


@pytest.mark.parametrize("kind", ["qwen", "mistral_v1", "mistral_v3", "mistral_v7", "tekken"])
def test_a_tokenizer_agrees_with_its_owner(kind: str) -> None:
    encode = reference(kind)
    tokenizer = build_tokenizer(kind)
    for text in TEXTS:
        assert tokenizer.encode(text, add_special_tokens=False) == encode(text), text
        assert tokenizer.decode(encode(text)).strip() == text.strip()


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_tokenizer_writes_every_letter_as_one_token(kind: str) -> None:
    skip_without(kind)
    tokenizer = build_tokenizer(kind, ["<image>"], size=2500, eos_token="</s>")
    assert len(tokenizer) < 6000
    letters = [tokenizer.encode(f"x {letter}", add_special_tokens=False) for letter in LETTERS]
    assert {len(ids) for ids in letters} == {2}
    assert len({ids[-1] for ids in letters}) == len(LETTERS)
    assert (
        tokenizer.decode(tokenizer.encode("B. cock 鷗", add_special_tokens=False)) == "B. cock 鷗"
    )
    assert tokenizer.encode("<image>", add_special_tokens=False) == [
        tokenizer.convert_tokens_to_ids("<image>")
    ]


def test_a_bos_is_added_where_the_model_wants_one() -> None:
    skip_without("mistral_v1")
    tokenizer = build_tokenizer("mistral_v1", adds_bos=True)
    assert tokenizer.encode("C")[0] == tokenizer.bos_token_id
    assert tokenizer.bos_token_id not in tokenizer.encode("C", add_special_tokens=False)
