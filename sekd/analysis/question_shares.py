"""Shares of questions that are easier than their number of options says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_LAST_NAME = r"/?[^/]*$"
"""The part of a node's id behind the id of its parent."""


@dataclass(frozen=True)
class QuestionShares:
    """Shares in percent of the questions.

    Attributes:
        single_option: questions with one option, which nobody can get wrong.
        few_siblings: questions in which a wrong option has another parent than the right one, so
            that the answer one level up may rule it out.
    """

    num_questions: int
    single_option: float
    few_siblings: float

    @classmethod
    def of(cls, chunks: Iterable[tuple[pa.Array, pa.Array]]) -> QuestionShares | None:
        """Compute the shares; ``None`` if there is no question.

        Args:
            chunks: the options of some questions, as lists of node ids, and their right nodes.
        """
        num_questions = num_single = num_few = 0
        for options, truths in chunks:
            parents = pc.replace_substring_regex(pc.list_flatten(options), _LAST_NAME, "")
            rows = pc.list_parent_indices(options)
            right = pc.replace_substring_regex(truths, _LAST_NAME, "").take(rows)
            is_other = pc.not_equal(parents, right).to_numpy(zero_copy_only=False)
            num_questions += len(options)
            num_single += pc.sum(pc.equal(pc.list_value_length(options), 1)).as_py() or 0
            num_few += len(np.unique(rows.to_numpy(zero_copy_only=False)[is_other]))
        if not num_questions:
            return None
        return cls(num_questions, 100 * num_single / num_questions, 100 * num_few / num_questions)

    def to_json(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)
