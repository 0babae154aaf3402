"""Match names as people write them with the names of a taxonomy, by stated steps.

Folder names, tables and predictions rarely spell a node as its taxonomy does: ``141.Artic_Tern``,
``Black-footed Albatross``, ``B. robin``. A name is compared as it is written first. Only where that
finds nothing, it is compared after one more of the steps of :data:`NAME_STEPS`, and so on. A match
is therefore never looser than it must be, and says which step it took, so that a reader can be
told. Nothing here guesses: two names that are equal after a step differ in nothing but what the
step takes away.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Value = TypeVar("Value")

MISSING_TEXTS = frozenset({"", "nan", "null", "none", "n/a", "<na>"})
"""Texts, case-folded, by which tools write a cell without a value. A taxonomy may have a name that
is one of them: look a text up before it is taken as missing."""

_APOSTROPHES = re.compile("['`\u00b4\u02bc\u2018\u2019]")
_SEPARATORS = re.compile(r"[\s_\u2010-\u2014-]+")
_LEADING_NUMBER = re.compile(r"\d+[\s.:)]+(?=\D)")
_OPTION_LETTER = re.compile(r"\s*(?:\([A-Za-z]\)|[A-Za-z][.:)])\s+(?=\S)")


@dataclass(frozen=True)
class NameStep:
    """One step of the comparison of names.

    Attributes:
        name: for messages, such as "case".
        fold: returns a text without what the step takes away; it is given the text as the steps
            before it left it.
    """

    name: str
    fold: Callable[[str], str]


def _fold_case(text: str) -> str:
    return text.casefold()


def _fold_unicode(text: str) -> str:
    """Return one spelling of characters that Unicode can write in several ways."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _fold_punctuation(text: str) -> str:
    """Make separators one space, and drop apostrophes and the dots at the end."""
    return _SEPARATORS.sub(" ", _APOSTROPHES.sub("", text)).strip(" .")


def _fold_leading_number(text: str) -> str:
    found = _LEADING_NUMBER.match(text)
    return text[found.end() :] if found else text


NAME_STEPS: tuple[NameStep, ...] = (
    NameStep("exact", str.strip),
    NameStep("case", _fold_case),
    NameStep("Unicode form", _fold_unicode),
    NameStep("punctuation", _fold_punctuation),
    NameStep("leading number", _fold_leading_number),
)
"""Steps for every name, in their order: spelling, case, Unicode form, ``_ - '`` and spaces, and a
number before the name."""


def strip_option_letter(text: str) -> str:
    """Return a model's answer without the letter of the option before it: ``B. robin``.

    This is no step of the comparison, because it may only be taken from an answer: a taxonomy may
    hold ``C. elegans``, which is no option C.
    """
    found = _OPTION_LETTER.match(text)
    return text[found.end() :] if found else text


@dataclass(frozen=True)
class NameMatch(Generic[Value]):
    """The values that a text was matched with, and the step that matched it.

    Attributes:
        values: every value whose name is equal after the step; more than one if it is ambiguous.
        step: the name of the step.
    """

    values: Sequence[Value]
    step: str


class NameIndex(Generic[Value]):
    """Looks names up by the steps of :data:`NAME_STEPS`.

    Args:
        names: pairs of a name and its value. Several pairs may have one name.
    """

    def __init__(self, names: Iterable[tuple[str, Value]]) -> None:
        self._values_after: list[dict[str, list[Value]]] = [{} for _ in NAME_STEPS]
        for name, value in names:
            for key, values_of in zip(_keys_after_steps(name), self._values_after, strict=True):
                values = values_of.setdefault(key, [])
                if value not in values:
                    values.append(value)

    def find(self, text: str) -> NameMatch[Value] | None:
        """Return what a text stands for by the first step that finds anything, or ``None``."""
        keys = _keys_after_steps(text)
        for key, values_of, step in zip(keys, self._values_after, NAME_STEPS, strict=True):
            if key and key in values_of:
                return NameMatch(values_of[key], step.name)
        return None


def _keys_after_steps(text: str) -> list[str]:
    """Return a text after each step."""
    folded = []
    for step in NAME_STEPS:
        text = step.fold(text)
        folded.append(text)
    return folded
