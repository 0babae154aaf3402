"""Prompts, and the parsing of replies, for teacher and student alike.

Their wording is a :class:`~sekd.models.wording.Wording`. The paper gives the teacher's "Given the
image and the known facts <None | earlier outputs>, answer Qi" and the student's "You are a
taxonomist. Answer the following multiple-choice questions about the organism in the image"; the
rest of the standard wording is ours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from sekd.config.base import STANDARD_WORDING
from sekd.data.questions import LETTERS, Question, option_key, shown_text
from sekd.data.taxonomy import Node
from sekd.models.wording import Wording, load_wording

PROMPT_VERSION = 1
"""Part of every fingerprint: raise it when a word of a prompt changes."""
STANDARD = load_wording(STANDARD_WORDING)


def option_lines(question: Question) -> str:
    """Write one line per option: its letter and its name."""
    lines = zip(question.letters, question.options, strict=True)
    return "\n".join(f"{letter}. {shown_text(node.name)}" for letter, node in lines)


def _parts(question: Question, subject: str, wording: Wording) -> dict[str, object]:
    return {
        "rank": wording.rank_of(question.rank),
        "number": wording.number_of(question),
        "subject": subject,
        "options": option_lines(question),
    }


def _named(node: Node, wording: Wording) -> dict[str, str]:
    return {"rank": wording.rank_of(node.rank), "name": shown_text(node.name)}


def single_question(
    question: Question, facts: Sequence[Node], subject: str, wording: Wording = STANDARD
) -> str:
    """Write one level's question as the first turn, with the known facts in it.

    In the first turn of a dialogue the root is known; in an independent question nothing is.
    """
    known = [wording.write("fact", **_named(node, wording)) for node in facts if node.name]
    joined = ", ".join(known) or wording.no_facts
    return wording.write("first", facts=joined, **_parts(question, subject, wording))


def next_question(question: Question, subject: str = "", wording: Wording = STANDARD) -> str:
    """Write a later turn of a dialogue: the known facts are the answers in the turns before it."""
    return wording.write("next", **_parts(question, subject, wording))


def numbered_question(question: Question, subject: str = "", wording: Wording = STANDARD) -> str:
    """Write one level's question of several in the same turn."""
    return wording.write("numbered", **_parts(question, subject, wording))


def joint_questions(
    questions: Sequence[Question], root: Node, subject: str, wording: Wording = STANDARD
) -> str:
    """Write the questions of all levels in one turn."""
    asked = [Question(0, (root,), root)] if wording.asks_root else []
    numbered = [numbered_question(each, subject, wording) for each in (*asked, *questions)]
    return wording.write(
        "joint",
        subject=subject,
        root=wording.write("root", **_named(root, wording)) if root.name else "",
        questions="\n".join(numbered),
    )


def answer_prefix(question: Question, wording: Wording = STANDARD) -> str:
    """Write the text before the letter, or the name, in a line of a joint answer.

    The space at its end is left out.
    """
    before = wording.line.partition("{letter}" if wording.has_letters else "{name}")[0]
    text = before.format(rank=wording.rank_of(question.rank), number=wording.number_of(question))
    return text.removesuffix(" ")


def answer_suffix(node: Node) -> str:
    """Write the text after the letter, in a dialogue's turn and in a line of a joint answer."""
    return f". {shown_text(node.name)}"


def answer_line(question: Question, choice: int, wording: Wording = STANDARD) -> str:
    """Write one line of a joint answer."""
    return wording.write(
        "line",
        number=wording.number_of(question),
        letter=LETTERS[choice],
        **_named(question.options[choice], wording) | {"rank": wording.rank_of(question.rank)},
    )


def open_question(ranks: Sequence[str], subject: str, wording: Wording = STANDARD) -> str:
    """Write the prompt of open naming, which shows no options.

    Args:
        ranks: all ranks of the taxonomy below the root, see
            :attr:`sekd.data.taxonomy.Taxonomy.ranks`. The prompt is the same for all images of a
            taxonomy, so it tells nothing about the right path.
    """
    named = ", ".join(map(wording.rank_of, ranks))
    return wording.write("open", subject=subject, ranks=named)


def open_line(node: Node, wording: Wording = STANDARD) -> str:
    """Write one line of a reply to :func:`open_question`; it has a line for each node of a path.

    A path without some of the ranks has no lines for them.
    """
    return wording.write("open_line", **_named(node, wording))


def open_name_start(node: Node, wording: Wording = STANDARD) -> int:
    """Return at which character of its :func:`open_line` the name of a node begins."""
    marked = _named(node, wording) | {"name": "\0"}
    return wording.write("open_line", **marked).index("\0")


class ParsedAnswer(NamedTuple):
    """An answer that was found in a joint reply.

    Attributes:
        choice: index of the option.
        offset: index of the letter's character in the reply; ``None`` where the answer is a name.
    """

    choice: int
    offset: int | None


def find_joint_answers(
    reply: str, questions: Sequence[Question], wording: Wording = STANDARD
) -> list[ParsedAnswer | None]:
    """Find one answer per question; ``None`` if the reply gives no single valid one.

    A line counts only if it names its level: as "phylum: B", by number as "L2: B", "Q2: B" or
    "2. B", or by both. Letters may be lower case, in brackets or bold. Two lines that disagree
    about a level, or a letter that is not an option, give ``None``: a parse failure, never a guess.
    Where the wording has no letters, the name of an option is an answer, too.
    """
    patterns = [_answer_pattern(question, wording) for question in questions]
    names = [] if wording.has_letters else [_name_pattern(each, wording) for each in questions]
    answers: list[list[ParsedAnswer]] = [[] for _ in questions]
    line_start = 0
    for line in reply.splitlines(keepends=True):
        for index, pattern in enumerate(patterns):
            match = pattern.match(line)
            if match:
                choice = LETTERS.index(match["letter"].upper())
                answers[index].append(ParsedAnswer(choice, line_start + match.start("letter")))
                break
        else:
            for index, pattern in enumerate(names):
                match = pattern.match(line)
                if match:
                    answers[index] += _named_options(match["name"], questions[index])
                    break
        line_start += len(line)
    return [
        _single_answer(level_answers, len(question.options))
        for level_answers, question in zip(answers, questions, strict=True)
    ]


def _level_pattern(question: Question, wording: Wording) -> str:
    number = rf"(?:level\s*|[LQ])?{wording.number_of(question)}"
    rank = re.escape(wording.rank_of(question.rank))
    return rf"[\s\-*#]*(?:(?:{number}[:.)]\s*)?{rank}|{number})[\s*]*[:.)]"


def _answer_pattern(question: Question, wording: Wording) -> re.Pattern[str]:
    """Build the pattern of a line that answers this question with a letter."""
    # Case is ignored except in the letter's own class, where it would admit letters that are not
    # ASCII.
    letter = r"(?P<letter>(?-i:[A-Za-z]))"
    level = _level_pattern(question, wording)
    return re.compile(rf"{level}[\s*(\[]*{letter}(?:[\s*]*[.):\]]|[\s*]*$)", re.IGNORECASE)


def _name_pattern(question: Question, wording: Wording) -> re.Pattern[str]:
    """Build the pattern of a line that answers this question with a name."""
    level = _level_pattern(question, wording)
    return re.compile(rf"{level}[\s*]*(?P<name>.*?)[\s*.]*$", re.IGNORECASE)


def _named_options(name: str, question: Question) -> list[ParsedAnswer]:
    """Return the answer that a name is; a name of no option is index ``len(options)``."""
    keys = [option_key(node.name) for node in question.options]
    key = option_key(name)
    return [ParsedAnswer(keys.index(key) if key in keys else len(keys), None)]


def _single_answer(answers: Sequence[ParsedAnswer], num_options: int) -> ParsedAnswer | None:
    """Return the first answer if all agree and it is one of the options."""
    choices = {answer.choice for answer in answers}
    if len(choices) != 1 or answers[0].choice >= num_options:
        return None
    return answers[0]
