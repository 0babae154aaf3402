"""Texts of a chat as tokens: finished transcripts, and prompts that end in front of an answer."""

from __future__ import annotations

from dataclasses import dataclass, field

from sekd.data.questions import Question
from sekd.models.encoding import Span, TokenIds


@dataclass(frozen=True)
class Transcript:
    """Token ids of a conversation, and where its answers are.

    Attributes:
        token_ids: all tokens, with one image placeholder.
        positions: index in ``token_ids`` of each answer's letter, level by level.
        is_target: per token, whether the model must write it (letters, names, ends of turn).
    """

    token_ids: TokenIds = ()
    positions: tuple[int, ...] = ()
    is_target: tuple[bool, ...] = ()

    def with_context(self, token_ids: TokenIds) -> Transcript:
        """Append tokens that the model reads."""
        return self._extended(token_ids, is_target=False)

    def with_target(self, token_ids: TokenIds) -> Transcript:
        """Append tokens that the model writes."""
        return self._extended(token_ids, is_target=True)

    def _extended(self, token_ids: TokenIds, *, is_target: bool) -> Transcript:
        return Transcript(
            (*self.token_ids, *token_ids),
            self.positions,
            (*self.is_target, *(is_target for _ in token_ids)),
        )


@dataclass(frozen=True)
class PlacedAnswer:
    """An answer in a text: where its letter and all of its words are, and the letter's token."""

    letter: int
    words: Span
    letter_id: int


@dataclass(frozen=True)
class DialogueTurn:
    """A dialogue, or a joint reply, in front of an answer: the next token is its letter.

    Attributes:
        question: whose answer comes next.
        token_ids: all tokens up to there.
    """

    question: Question
    token_ids: TokenIds
    text: str = field(repr=False)
    answers: tuple[PlacedAnswer, ...] = field(repr=False, default=())
