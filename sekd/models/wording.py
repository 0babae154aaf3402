"""The wording of questions and replies: templates that a user can replace.

``wordings.yaml`` beside this file holds the wordings of sekd and explains every template.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Self

import yaml
from pydantic import ValidationError, model_validator

from sekd.config.base import STANDARD_WORDING, Section
from sekd.config.messages import explain, nearest
from sekd.data.questions import Question, shown_text
from sekd.data.taxonomy import Node
from sekd.errors import ConfigError, in_one_line

_MAX_BYTES = 100_000


class Wording(Section):
    """Templates with the parts of a question in braces; see ``wordings.yaml``."""

    first: str
    next: str
    fact: str
    no_facts: str
    joint: str
    root: str
    numbered: str
    line: str
    open: str
    open_line: str
    asks_root: bool
    ranks: dict[str, str]

    parts: ClassVar[Mapping[str, frozenset[str]]] = {
        "first": frozenset({"facts", "rank", "number", "subject", "options"}),
        "next": frozenset({"rank", "number", "subject", "options"}),
        "fact": frozenset({"rank", "name"}),
        "no_facts": frozenset(),
        "joint": frozenset({"subject", "root", "questions"}),
        "root": frozenset({"rank", "name"}),
        "numbered": frozenset({"rank", "number", "subject", "options"}),
        "line": frozenset({"rank", "number", "letter", "name"}),
        "open": frozenset({"subject", "ranks"}),
        "open_line": frozenset({"rank", "name"}),
    }
    """Template -> the parts that it may have."""
    needed: ClassVar[Mapping[str, str]] = {
        "first": "options",
        "next": "options",
        "joint": "questions",
        "numbered": "options",
        "line": "name",
        "open": "ranks",
        "open_line": "name",
    }
    """Template -> the part that it must have."""

    @model_validator(mode="after")
    def _has_known_parts(self) -> Self:
        for template, known in self.parts.items():
            found = list(_parts_of(template, getattr(self, template)))
            for part in found:
                if part not in known:
                    names = ", ".join(f"{{{name}}}" for name in sorted(known)) or "none"
                    raise ValueError(f"{template}: no part {{{part}}} here; known: {names}")
            needed = self.needed.get(template)
            if needed is not None and needed not in found:
                raise ValueError(f"{template}: the part {{{needed}}} is missing")
        if self.has_letters:
            before, _, behind = self.line.partition("{letter}")
            if not before.endswith(": ") or "{name}" in before or behind != ". {name}":
                raise ValueError("line: write it as 'RANK: {letter}. {name}', or without {letter}")
        if "{rank}" not in self.line and "{number}" not in self.line:
            raise ValueError("line: name the level by {rank} or {number}")
        return self

    @property
    def has_letters(self) -> bool:
        """Tell whether replies to all questions hold letters."""
        return "{letter}" in self.line

    def number_of(self, question: Question) -> int:
        """Return the number of a question's level, as prompts and replies have it."""
        return question.level + (1 if self.asks_root else 0)

    def rank_of(self, rank: str) -> str:
        """Return what a rank is called."""
        return shown_text(self.ranks.get(rank, rank))

    def write(self, template: str, **values: Any) -> str:
        """Fill in a template."""
        text: str = getattr(self, template)
        return text.format(**values)

    def settings(self) -> dict[str, Any]:
        """Dump the templates as JSON, for fingerprints.

        Templates of open naming are in it only where they are not the standard ones, so that runs
        from before they existed are still found.
        """
        standard = _packaged_wordings()[STANDARD_WORDING]
        content = self.model_dump(mode="json")
        for template in ("open", "open_line"):
            if content[template] == getattr(standard, template):
                del content[template]
        return content

    def refuse_taxonomy(self, root: Node, source: str) -> None:
        """Refuse a taxonomy whose root has no name where it is to be asked about.

        Raises:
            ConfigError: naming the taxonomy.
        """
        if self.asks_root and not root.name:
            raise ConfigError(
                f"{source}: the wording asks about the root, which has no name in this taxonomy; "
                "put it in front of every path, or take a wording with asks_root: false"
            )


def _parts_of(template: str, text: str) -> list[str]:
    """List the parts in braces of a template."""
    parts = []
    try:
        for _, part, form, conversion in string.Formatter().parse(text):
            if part is not None:
                if form or conversion:
                    raise ValueError(f"{{{part}!{conversion}:{form}}}")
                parts.append(part)
    except ValueError as error:
        raise ValueError(f"{template}: not a template ({error}); write {{{{ for a brace") from error
    return parts


@cache
def _packaged_wordings() -> Mapping[str, Wording]:
    text = files("sekd.models").joinpath("wordings.yaml").read_text("utf-8")
    contents = yaml.safe_load(text)
    return {
        name: Wording.model_validate(contents[STANDARD_WORDING] | content)
        for name, content in contents.items()
    }


def load_wording(name: str) -> Wording:
    """Return a wording of sekd by its name, or read one from a YAML file.

    Raises:
        ConfigError: if there is no such wording or file, or it is wrong; the message names the key.
    """
    packaged = _packaged_wordings()
    if name in packaged:
        return packaged[name]
    path = Path(name).expanduser()
    if path.suffix not in (".yaml", ".yml"):
        hint = nearest(name, packaged)
        raise ConfigError(f"wording {name!r}: neither a .yaml file nor known{hint}")
    content = _read_yaml(path)
    try:
        return Wording.model_validate(packaged[STANDARD_WORDING].model_dump() | content)
    except ValidationError as error:
        raise ConfigError(f"{path}: {'; '.join(explain(error, Wording))}") from error


def _read_yaml(path: Path) -> dict[str, Any]:
    """Read a small mapping without aliases, which could be made to grow without end."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
        if len(text) > _MAX_BYTES:
            raise ConfigError(f"{path}: more than {_MAX_BYTES} bytes, too many for a wording")
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, yaml.SafeLoader)):
            raise ConfigError(f"{path}: write the text again in place of an alias (*)")
        content = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path}: not valid YAML: {in_one_line(str(error))}") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(f"{path}: expected keys such as first, next and joint")
    return content
