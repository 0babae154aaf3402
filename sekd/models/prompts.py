"""The words: how questions are put and how replies are read, for teacher and student alike.

The paper gives the teacher's "Given the image and the known facts <None | earlier outputs>, answer
Qi" and the student's "You are a taxonomist. Answer the following multiple-choice questions about
the organism in the image"; the rest of the wording is ours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from sekd.data.questions import LETTERS, Question
from sekd.data.taxonomy import Node

PROMPT_VERSION = 1
"""Part of every fingerprint: raise it when a word below changes."""


def option_lines(question: Question) -> str:
    """One line per option: letter and name."""
    lines = zip(question.letters, question.options, strict=True)
    return "\n".join(f"{letter}. {node.name}" for letter, node in lines)


def _fact(node: Node) -> str:
    return f"{node.rank}: {node.name}" if node.name else "None"


def single_question(question: Question, facts: Sequence[Node], subject: str) -> str:
    """One level's question as an opening turn, with the known facts in it.

    The first step of a dialogue knows the root; an independent question knows nothing.
    """
    known = ", ".join(_fact(node) for node in facts) or "None"
    return (
        f"Given the image and the known facts ({known}), answer with the letter of the right "
        f"option: what is the {question.rank} of the {subject}?\n{option_lines(question)}"
    )


def next_question(question: Question) -> str:
    """A later turn of a dialogue: the facts so far are the turns above it, each by node name."""
    asked = f"Given the image and the known facts, what is the {question.rank}?"
    return f"{asked}\n{option_lines(question)}"


def numbered_question(question: Question) -> str:
    """One level's question among others in the same turn."""
    return f"Q{question.level}: what is the {question.rank}?\n{option_lines(question)}"


def joint_questions(questions: Sequence[Question], root: Node, subject: str) -> str:
    """All levels' questions in one turn."""
    known = f"The {root.rank} is {root.name}.\n" if root.name else ""
    asked = "\n".join(numbered_question(question) for question in questions)
    return (
        "You are a taxonomist. Answer the following multiple-choice questions about the "
        f"{subject} in the image, one line each, as 'level: letter. name'.\n{known}{asked}"
    )


def answer_prefix(question: Question) -> str:
    """What stands before the letter in a joint answer's line."""
    return f"{question.rank}:"


def answer_suffix(node: Node) -> str:
    """What follows the letter, in a dialogue's turn and in a joint answer's line."""
    return f". {node.name}"


class Found(NamedTuple):
    """An answer in a joint reply: the option's index, and where in the text its letter is."""

    choice: int
    place: int


def find_joint_answers(reply: str, questions: Sequence[Question]) -> list[Found | None]:
    """An answer per question, ``None`` where the reply gives no single valid one.

    A line counts only if it names its level: as "phylum: B", by number as "L2: B", "Q2: B" or
    "2. B", or by both. Letters may be lower case, in brackets or bold. Two lines that disagree
    about a level, or a letter that is not an option, give ``None``: a parse failure, never a guess.
    """
    found: list[list[Found]] = [[] for _ in questions]
    start = 0
    for line in reply.splitlines(keepends=True):
        for index, question in enumerate(questions):
            number = rf"(?:level\s*|[LQ])?{question.level}"
            names = rf"(?:{number}[:.)]\s*)?{re.escape(question.rank)}|{number}"
            match = re.match(
                rf"[\s\-*#]*(?:{names})[\s*]*[:.)][\s*(\[]*((?-i:[A-Za-z]))(?:[\s*]*[.):\]]|[\s*]*$)",
                line,
                re.IGNORECASE,
            )
            if match:
                choice = LETTERS.index(match.group(1).upper())
                found[index].append(Found(choice, start + match.start(1)))
                break
        start += len(line)
    return [
        answers[0]
        if len({answer.choice for answer in answers}) == 1
        and answers[0].choice < len(question.options)
        else None
        for answers, question in zip(found, questions, strict=True)
    ]


def parse_joint_reply(reply: str, questions: Sequence[Question]) -> list[int | None]:
    """Option index per question, as :func:`find_joint_answers` finds it."""
    return [found and found.choice for found in find_joint_answers(reply, questions)]
