"""Shares of questions with one option, and with wrong options of other parents."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sekd.analysis.question_shares import QuestionShares

NODES = ["a", "b", "a/a", "a/b", "b/a", "b/b%2Fa", "b/b%2Fa/a"]


def chunk(questions: list[tuple[list[str], str]]) -> tuple[pa.Array, pa.Array]:
    options = pa.array([options for options, _ in questions], pa.list_(pa.string()))
    return options, pa.array([truth for _, truth in questions], pa.string())


def test_shares_of_some_questions() -> None:
    first = chunk([(["a"], "a"), (["b", "a"], "a"), (["a/a", "a/b"], "a/b")])
    second = chunk([(["a/a", "b/a", "b/b%2Fa"], "b/a")])
    shares = QuestionShares.of([first, second])
    assert shares == QuestionShares(num_questions=4, single_option=25.0, few_siblings=25.0)
    assert QuestionShares.of([chunk([])]) is None


@given(
    st.lists(
        st.lists(st.sampled_from(NODES), min_size=1, max_size=4, unique=True).map(
            lambda options: (options, options[0])
        ),
        min_size=1,
    ),
    st.integers(1, 5),
)
def test_shares_are_those_of_a_loop(
    questions: list[tuple[list[str], str]], num_in_chunk: int
) -> None:
    chunks = [
        chunk(questions[start : start + num_in_chunk])
        for start in range(0, len(questions), num_in_chunk)
    ]
    shares = QuestionShares.of(chunks)
    assert shares is not None
    num_single = sum(len(options) == 1 for options, _ in questions)
    num_few = sum(
        any(option.rpartition("/")[0] != truth.rpartition("/")[0] for option in options)
        for options, truth in questions
    )
    assert shares.num_questions == len(questions)
    assert shares.single_option == pytest.approx(100 * num_single / len(questions))
    assert shares.few_siblings == pytest.approx(100 * num_few / len(questions))
