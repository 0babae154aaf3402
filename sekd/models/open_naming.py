"""Open naming: all answers that a taxonomy allows, as token ids, and where they part.

The prompt shows no options, so the taxonomy alone says what can be answered: the path of each leaf,
with one line for each of its nodes (:func:`sekd.models.prompts.open_line`). Every answer is encoded
as a whole text, behind the prompt and with the end of the model's turn, as the tokenizer writes it.
So nothing is assumed about where the tokens of a name begin or end: the first may hold the space
before the name, and the last the line break behind it. A name that is the prefix of another parts
from it at the end of its line. A leaf with children parts from their paths at the end of the turn.

Sorted by their tokens, the answers are a trie: those with a common beginning stand side by side.
Where all of them go on with the same token, nothing needs to be asked.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import NamedTuple

from sekd.data.taxonomy import Node, Taxonomy
from sekd.models import prompts
from sekd.models.chat import Chat, Transcript
from sekd.models.encoding import EncodedText, TokenIds, common_length

logger = logging.getLogger(__name__)


class AnswerRange(NamedTuple):
    """Answers that stand side by side: the index of the first, and of the one behind the last."""

    start: int
    stop: int


@dataclass(frozen=True)
class Branch:
    """A place at which answers with a common beginning part.

    Attributes:
        prefix_ids: the prompt and the beginning that the answers share.
        token_ids: the tokens with which they go on, each once.
        ranges: for each token, the answers that go on with it.
    """

    prefix_ids: TokenIds
    token_ids: TokenIds
    ranges: tuple[AnswerRange, ...]


class OpenAnswers:
    """The prompt of open naming about a taxonomy, and all answers to it.

    Two leaves whose answers are the same tokens cannot be told apart: their names differ in nothing
    that the tokenizer keeps, such as their Unicode form. The first one of the taxonomy stands for
    all of them, and the log says how many others there are.

    Attributes:
        taxonomy: whose paths are named.
    """

    def __init__(self, chat: Chat, taxonomy: Taxonomy) -> None:
        self.taxonomy = taxonomy
        self._chat = chat
        asked = prompts.open_question(taxonomy.ranks, chat.subject, chat.wording)
        self._prompt = chat.template.open(asked)
        self._num_prompt_tokens = len(chat.encoder.encode(self._prompt))
        leaves = [node for node in taxonomy.nodes if node.id in taxonomy.leaf_ids]
        encoded = chat.encoder.encode_all([self._text(leaf) for leaf in leaves])
        leaf_of: dict[TokenIds, Node] = {}
        doubles = []
        for leaf, token_ids in zip(leaves, encoded, strict=True):
            if leaf_of.setdefault(self._with_stop(token_ids), leaf) is not leaf:
                doubles.append(leaf.id)
        if doubles:
            logger.warning(
                "%s: %d leaves are written with the same tokens as another one, which is named in "
                "their place; the first of them is %r",
                taxonomy.source,
                len(doubles),
                doubles[0],
            )
        self._answers = sorted(leaf_of)
        self._paths = [tuple(taxonomy.path(leaf_of[token_ids])) for token_ids in self._answers]
        self._branches: dict[AnswerRange, Branch] = {}
        self._outcomes: dict[tuple[AnswerRange, int], tuple[Node, ...]] = {}

    @property
    def all(self) -> AnswerRange:
        """The range of all answers."""
        return AnswerRange(0, len(self._answers))

    def branch(self, answers: AnswerRange) -> Branch:
        """Return the first place at which some answers part; there are at least two of them."""
        if answers not in self._branches:
            token_ids = self._answers[answers.start : answers.stop]
            depth = common_length(token_ids[0], token_ids[-1])
            groups = groupby(range(*answers), key=lambda index: self._answers[index][depth])
            starts = {token: next(group) for token, group in groups}
            ranges = pairwise([*starts.values(), answers.stop])
            self._branches[answers] = Branch(
                token_ids[0][:depth], tuple(starts), tuple(AnswerRange(*pair) for pair in ranges)
            )
        return self._branches[answers]

    def outcomes(self, answers: AnswerRange, depth: int) -> tuple[Node, ...]:
        """Return to which nodes some answers go on from their common node.

        Args:
            depth: of the common node, 0 for the root.

        Returns:
            Children of the common node, in the order of the answers. Where an answer ends at the
            common node, this node is one of them.
        """
        key = answers, depth
        if key not in self._outcomes:
            paths = self._paths[answers.start : answers.stop]
            nodes = (path[depth] if len(path) > depth else path[-1] for path in paths)
            self._outcomes[key] = tuple(dict.fromkeys(nodes))
        return self._outcomes[key]

    def branches_to(self, leaf: Node) -> Iterator[tuple[int, Branch, int]]:
        """Yield the branches that the answer of a leaf passes, in their order.

        Yields:
            Depth of the node below which the branch decides, the branch, and which of its tokens
            the answer goes on with.
        """
        token_ids = self.transcript(leaf).token_ids
        answers, depth = self.all, 0
        while answers.stop - answers.start > 1:
            while len(self.outcomes(answers, depth)) == 1:
                depth += 1
            branch = self.branch(answers)
            index = branch.token_ids.index(token_ids[len(branch.prefix_ids)])
            yield depth, branch, index
            answers = branch.ranges[index]

    def transcript(self, leaf: Node) -> Transcript:
        """Return the prompt and the answer of a leaf; its positions are those of the names.

        A name is where the first token is that holds a character of it.
        """
        text, start, names = self._text(leaf), len(self._prompt), []
        line_start = start + len(self._chat.answer_lead)
        for node in self.taxonomy.path(leaf):
            names.append(line_start + prompts.open_name_start(node, self._chat.wording))
            line_start += len(prompts.open_line(node, self._chat.wording)) + 1
        borders = sorted({start, *names, *(name + 1 for name in names), len(text)})
        encoded = self._chat.encoder.encode_with_places(text, borders)
        token_ids = self._with_stop(encoded.token_ids)
        is_target = encoded.is_within([(start, len(text))])
        is_target += (True,) * (len(token_ids) - len(is_target))
        positions = tuple(_token_at(encoded, name) for name in names)
        return Transcript(token_ids, positions, is_target[: len(token_ids)])

    def _text(self, leaf: Node) -> str:
        lines = [prompts.open_line(node, self._chat.wording) for node in self.taxonomy.path(leaf)]
        template = self._chat.template
        return self._prompt + template.answer_lead + "\n".join(lines) + template.end

    def _with_stop(self, token_ids: TokenIds) -> TokenIds:
        """End an answer with the token that ends the model's turn, which may be in it already.

        So no answer is the beginning of another.
        """
        stop_id = self._chat.stop_id
        if stop_id in token_ids[self._num_prompt_tokens :]:
            return token_ids[: token_ids.index(stop_id, self._num_prompt_tokens) + 1]
        return (*token_ids, stop_id)


def _token_at(encoded: EncodedText, character: int) -> int:
    """Return the index of the first token that reaches beyond the beginning of a character."""
    return next(index for index, end in enumerate(encoded.ends) if end > character)
