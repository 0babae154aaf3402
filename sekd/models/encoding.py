"""Token ids of a whole rendered text, and which of them stand for a part of it.

A text is always encoded as a whole, as the tokenizer itself would do it. Encoded piece by piece, a
SentencePiece tokenizer writes a space in front of every piece ("C . cock" for "C. cock").

The exception is what the tokenizer itself cuts: it looks for special tokens first, and encodes what
is between them piece by piece. The turns of a dialogue have most pieces in common, and each of them
is encoded once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, pairwise
from typing import Any

TokenIds = tuple[int, ...]
Span = tuple[int, int]
"""Start and end (exclusive) of a part of a text, in characters."""
_NUM_KEPT_PIECES = 2048


@dataclass(frozen=True)
class EncodedText:
    """Token ids of a text.

    Attributes:
        token_ids: one id per token, special tokens of the tokenizer in front included.
        starts, ends: per token, the characters of the text that it stands for; both are 0 for a
            token that stands for none.
    """

    token_ids: TokenIds
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    def index_of(self, character: int) -> int | None:
        """Return the index of the first token that holds a character of the text, if any does."""
        for index, (start, end) in enumerate(zip(self.starts, self.ends, strict=True)):
            if start <= character < end:
                return index
        return None

    def is_within(self, spans: Sequence[Span]) -> tuple[bool, ...]:
        """Return for every token whether its last character lies in one of the spans."""
        return tuple(
            end > 0 and any(first < end <= last for first, last in spans) for end in self.ends
        )


class TextEncoder:
    """Encodes rendered texts with the model's tokenizer.

    As in transformers' own ``apply_chat_template``, the special tokens that a tokenizer puts in
    front of a text (``<s>``) are added unless the template has written them already.

    Args:
        tokenizer: a tokenizer of transformers.
        example: a text with special tokens. Later texts are cut at these, if the tokenizer does so.

    Attributes:
        prefix_ids: the special tokens that the tokenizer puts in front of a text.
    """

    def __init__(self, tokenizer: Any, example: str = "") -> None:
        self._tokenizer = tokenizer
        self._has_offsets = bool(getattr(tokenizer, "is_fast", False))
        self._encode_piece = lru_cache(_NUM_KEPT_PIECES)(self.encode_part)
        self._cuts: re.Pattern[str] | None = self._find_cuts(example)
        self.prefix_ids = self._find_prefix()

    def encode(self, text: str) -> TokenIds:
        """Encode a whole text."""
        if self._cuts is None:
            return (*self._prefix_of(text), *self.encode_part(text))
        return (*self._prefix_of(text), *self._encode_pieces(text, self._cuts))

    def encode_all(self, texts: Sequence[str]) -> list[TokenIds]:
        """Encode many whole texts, which takes a fraction of the time that they take one by one."""
        encoded = self._tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return [(*self._prefix_of(text), *ids) for text, ids in zip(texts, encoded, strict=True)]

    def encode_part(self, text: str) -> TokenIds:
        """Encode a text without special tokens in front; for texts that are looked at alone."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))

    def encode_with_places(self, text: str, borders: Sequence[int]) -> EncodedText:
        """Encode a whole text, and say which characters each token stands for.

        Args:
            borders: the characters between which parts of the text begin and end. The tokens of a
                tokenizer without offsets (one that is written in Python) are known by the part that
                they lie in. One that crosses a border counts with the part behind the border.
        """
        token_ids, starts, ends = self._places(text, borders)
        prefix_ids = self._prefix_of(text)
        nowhere = (0,) * len(prefix_ids)
        return EncodedText((*prefix_ids, *token_ids), (*nowhere, *starts), (*nowhere, *ends))

    def _places(
        self, text: str, borders: Sequence[int]
    ) -> tuple[TokenIds, tuple[int, ...], tuple[int, ...]]:
        """Return a text's token ids, and the first and last (exclusive) character of each."""
        if not self._has_offsets:
            token_ids = self.encode_part(text)
            return token_ids, *self._places_by_prefix(text, token_ids, borders)
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        starts = tuple(start for start, _ in encoded["offset_mapping"])
        ends = tuple(end for _, end in encoded["offset_mapping"])
        return tuple(encoded["input_ids"]), starts, ends

    def _places_by_prefix(
        self, text: str, token_ids: TokenIds, borders: Sequence[int]
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Find the part of each token: text up to a border has the same tokens up to there.

        Text that is cut at a border may end in another token ("▁▁" for "▁" and "▁A"), so the text
        up to the character behind it is looked at, too.
        """
        starts: list[int] = []
        ends: list[int] = []
        last = 0
        for border in sorted({*borders, len(text)} - {0}):
            before = common_length(self.encode_part(text[:border]), token_ids)
            behind = common_length(self.encode_part(text[: border + 1]), token_ids)
            num_tokens = max(before, behind - 1) - len(starts)
            starts += [last] * num_tokens
            ends += [border] * num_tokens
            last = border
        return tuple(starts), tuple(ends)

    def _encode_pieces(self, text: str, cuts: re.Pattern[str]) -> TokenIds:
        """Encode a text in pieces, each of which begins with a special token."""
        borders = pairwise([0, *(cut.start() for cut in cuts.finditer(text)), len(text)])
        pieces = (text[start:end] for start, end in borders if start < end)
        return tuple(chain.from_iterable(map(self._encode_piece, pieces)))

    def _find_cuts(self, example: str) -> re.Pattern[str] | None:
        """Return a pattern of the special tokens in a text at which the tokenizer cuts it.

        Tokens that take spaces in front of them, that must stand alone, or that are looked for in
        normalized text have conditions on what is before them, and are left out.
        """
        found = set(self.encode_part(example)) if self._has_offsets else set()
        tokens = [
            token.content
            for token_id, token in getattr(self._tokenizer, "added_tokens_decoder", {}).items()
            if token_id in found and not (token.lstrip or token.single_word or token.normalized)
        ]
        if not tokens:
            return None
        cuts = re.compile("|".join(map(re.escape, sorted(tokens, key=len, reverse=True))))
        twice = example + example
        is_same = self._encode_pieces(twice, cuts) == self.encode_part(twice)
        return cuts if is_same else None

    def _prefix_of(self, text: str) -> TokenIds:
        bos_token = getattr(self._tokenizer, "bos_token", None)
        has_prefix = bos_token is not None and text.startswith(str(bos_token))
        return () if has_prefix or not text else self.prefix_ids

    def _find_prefix(self) -> TokenIds:
        alone = self.encode_part("x")
        whole = tuple(self._tokenizer.encode("x", add_special_tokens=True))
        for start in range(len(whole) - len(alone) + 1):
            if whole[start : start + len(alone)] == alone:
                return whole[:start]
        return ()


def common_length(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Return how many items two sequences share at their start."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
