"""Prompt templates and reply parsing, for teacher and student alike.

The paper gives the teacher's "Given the image and the known facts <None | earlier outputs>, answer
Qi" and the student's "You are a taxonomist. Answer the following multiple-choice questions about
the organism in the image"; the rest of the wording is ours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from sekd.data.questions import LETTERS, Question, shown_text
from sekd.data.taxonomy import Node

PROMPT_VERSION = 1
"""Part of every fingerprint: raise it when a word of a prompt changes."""


def option_lines(question: Question) -> str:
    """Write one line per option: its letter and its name."""
    lines = zip(question.letters, question.options, strict=True)
    return "\n".join(f"{letter}. {shown_text(node.name)}" for letter, node in lines)


def _fact(node: Node) -> str:
    return f"{shown_text(node.rank)}: {shown_text(node.name)}" if node.name else "None"


def single_question(question: Question, facts: Sequence[Node], subject: str) -> str:
    """Write one level's question as the first turn, with the known facts in it.

    In the first turn of a dialogue the root is known; in an independent question nothing is.
    """
    known = ", ".join(_fact(node) for node in facts) or "None"
    rank = shown_text(question.rank)
    return (
        f"Given the image and the known facts ({known}), answer with the letter of the right "
        f"option: what is the {rank} of the {subject}?\n{option_lines(question)}"
    )


def next_question(question: Question) -> str:
    """Write a later turn of a dialogue: the known facts are the answers in the turns before it."""
    text = f"Given the image and the known facts, what is the {shown_text(question.rank)}?"
    return f"{text}\n{option_lines(question)}"


def numbered_question(question: Question) -> str:
    """Write one level's question of several in the same turn."""
    return f"Q{question.level}: what is the {shown_text(question.rank)}?\n{option_lines(question)}"


def joint_questions(questions: Sequence[Question], root: Node, subject: str) -> str:
    """Write the questions of all levels in one turn."""
    known = f"The {shown_text(root.rank)} is {shown_text(root.name)}.\n" if root.name else ""
    numbered = "\n".join(numbered_question(question) for question in questions)
    return (
        "You are a taxonomist. Answer the following multiple-choice questions about the "
        f"{subject} in the image, one line each, as 'level: letter. name'.\n{known}{numbered}"
    )


def answer_prefix(question: Question) -> str:
    """Write the text before the letter in a line of a joint answer."""
    return f"{shown_text(question.rank)}:"


def answer_suffix(node: Node) -> str:
    """Write the text after the letter, in a dialogue's turn and in a line of a joint answer."""
    return f". {shown_text(node.name)}"


class ParsedAnswer(NamedTuple):
    """An answer that was found in a joint reply.

    Attributes:
        choice: index of the option.
        offset: index of the letter's character in the reply.
    """

    choice: int
    offset: int


def find_joint_answers(reply: str, questions: Sequence[Question]) -> list[ParsedAnswer | None]:
    """Find one answer per question; ``None`` if the reply gives no single valid one.

    A line counts only if it names its level: as "phylum: B", by number as "L2: B", "Q2: B" or
    "2. B", or by both. Letters may be lower case, in brackets or bold. Two lines that disagree
    about a level, or a letter that is not an option, give ``None``: a parse failure, never a guess.
    """
    patterns = [_answer_line(question) for question in questions]
    answers: list[list[ParsedAnswer]] = [[] for _ in questions]
    line_start = 0
    for line in reply.splitlines(keepends=True):
        for index, pattern in enumerate(patterns):
            match = pattern.match(line)
            if match:
                choice = LETTERS.index(match["letter"].upper())
                answers[index].append(ParsedAnswer(choice, line_start + match.start("letter")))
                break
        line_start += len(line)
    return [
        _single_answer(level_answers, len(question.options))
        for level_answers, question in zip(answers, questions, strict=True)
    ]


def _answer_line(question: Question) -> re.Pattern[str]:
    """Build the pattern of a line that answers this question."""
    number = rf"(?:level\s*|[LQ])?{question.level}"
    level = rf"(?:{number}[:.)]\s*)?{re.escape(shown_text(question.rank))}|{number}"
    # Case is ignored except in the letter's own class, where it would admit letters that are not
    # ASCII.
    letter = r"(?P<letter>(?-i:[A-Za-z]))"
    return re.compile(
        rf"[\s\-*#]*(?:{level})[\s*]*[:.)][\s*(\[]*{letter}(?:[\s*]*[.):\]]|[\s*]*$)",
        re.IGNORECASE,
    )


def _single_answer(answers: Sequence[ParsedAnswer], num_options: int) -> ParsedAnswer | None:
    """Return the first answer if all agree and it is one of the options."""
    choices = {answer.choice for answer in answers}
    if len(choices) != 1 or answers[0].choice >= num_options:
        return None
    return answers[0]
