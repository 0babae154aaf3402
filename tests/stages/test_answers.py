"""One answer is made of the responses to a question in several orders of its options."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sekd.data.questions import Question
from sekd.engines import Answer
from sekd.models.chat import DialogueTurn, Transcript
from sekd.stages.answers import LevelAnswer, average_orders


def turn_of(question: Question, shift: int = 0) -> DialogueTurn:
    options = (*question.options[shift:], *question.options[:shift])
    return DialogueTurn(replace(question, options=options), Transcript(), (), "")


def response_of(*probabilities: float, num_cached_tokens: int = 0) -> Answer:
    logprobs = np.log(np.array(probabilities, dtype=np.float32))
    return Answer(int(logprobs.argmax()), logprobs, 10, num_cached_tokens)


def test_a_single_order_is_taken_as_it_is(questions: list[Question]) -> None:
    response = response_of(0.2, 0.5, 0.1)
    answer = average_orders([turn_of(questions[-1])], [response])
    assert answer.choice == 1
    assert answer.node == questions[-1].options[1]
    assert answer.option_logprobs is answer.mean_logprobs is response.option_logprobs


def test_probabilities_are_averaged_by_node(questions: list[Question]) -> None:
    """A model that always likes the first letter answers with the node that it likes besides."""
    question = questions[-1]
    turns = [turn_of(question, shift) for shift in range(3)]
    responses = [
        response_of(0.6, 0.1, 0.3, num_cached_tokens=4),
        response_of(0.6, 0.3, 0.1, num_cached_tokens=5),
        response_of(0.7, 0.2, 0.1, num_cached_tokens=6),
    ]
    answer = average_orders(turns, responses)
    assert answer.question == question
    assert answer.choice == 2
    assert answer.option_logprobs is responses[0].option_logprobs
    assert answer.mean_logprobs is not None
    assert answer.mean_logprobs.dtype == np.float32
    np.testing.assert_allclose(np.exp(answer.mean_logprobs), np.array([0.9, 0.8, 1.3]) / 3, 1e-6)
    assert (answer.num_prompt_tokens, answer.num_cached_tokens) == (30, 15)


@pytest.mark.parametrize("choice", [None, 0])
def test_an_answer_names_its_node_where_it_has_a_choice(
    questions: list[Question], choice: int | None
) -> None:
    node = None if choice is None else questions[0].options[choice]
    assert LevelAnswer(questions[0], choice).node == node
