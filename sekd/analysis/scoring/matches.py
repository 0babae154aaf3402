"""Match the texts of a file with the names of a taxonomy, and keep what was matched, to be said."""

from __future__ import annotations

from collections import Counter

from sekd.data.names import MISSING_TEXTS, NameIndex, NameMatch, strip_option_letter
from sekd.data.taxonomy import Node, Taxonomy


class NameMatches:
    """Finds nodes by name at a level, and leaves by name, by the steps of :mod:`sekd.data.names`.

    What a model wrote may begin with the letter of an option, which is taken away last.

    Attributes:
        counts: step -> the number of distinct texts that it found.
        examples: step -> a text, and the name that it was matched with.
    """

    def __init__(self, taxonomy: Taxonomy) -> None:
        self._taxonomy = taxonomy
        self._by_level: dict[int, NameIndex[Node]] = {}
        self._leaves: NameIndex[Node] = NameIndex(
            (node.name, node) for node in taxonomy.nodes if node.id in taxonomy.leaf_ids
        )
        self._names = {node.name.casefold() for node in taxonomy.nodes}
        self._seen: set[tuple[str, int | None]] = set()
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, tuple[str, str]] = {}

    def is_missing(self, text: str) -> bool:
        """Tell whether a text stands for no answer, such as ``NaN``, and is no name."""
        folded = text.strip().casefold()
        return folded in MISSING_TEXTS and (not folded or folded not in self._names)

    def at_level(self, text: str, level: int) -> list[Node]:
        """Return the nodes at a level that a text names; several where they share the name."""
        named = self._taxonomy.named(text, level)
        if named:
            self._note("exact" if any(node.name == text for node in named) else "case", text, named)
            return named
        if level not in self._by_level:
            nodes = [node for node in self._taxonomy.nodes if node.depth == level]
            self._by_level[level] = NameIndex((node.name, node) for node in nodes)
        return self._find(self._by_level[level], text)

    def leaf(self, text: str) -> Node | None:
        """Return the leaf that a text names; ``None`` if it names none, or several."""
        text = text.strip()
        if text in self._taxonomy:
            return self._taxonomy[text]
        try:
            node = self._taxonomy.leaf(text)
        except LookupError:
            found = self._find(self._leaves, text)
            return found[0] if len(found) == 1 else None
        self._note("exact" if node.name == text else "case", text, [node])
        return node

    def sentence(self) -> str:
        """Say how many names were matched by which step; empty where all are written alike."""
        if not set(self.counts) - {"exact"}:
            return ""
        parts = []
        for step, count in self.counts.items():
            example = ""
            if step != "exact":
                text, name = self.examples[step]
                example = f" ({text!r} as {name!r})"
            parts.append(f"{count:,} {'exactly' if step == 'exact' else f'by {step}'}{example}")
        return f"names matched: {', '.join(parts)}"

    def _find(self, index: NameIndex[Node], text: str) -> list[Node]:
        match: NameMatch[Node] | None = index.find(text)
        step = match.step if match else "option letter"
        if match is None:
            without_letter = strip_option_letter(text)
            match = index.find(without_letter) if without_letter != text else None
        if match is None:
            return []
        self._note(step, text, list(match.values))
        return list(match.values)

    def _note(self, step: str, text: str, nodes: list[Node]) -> None:
        if (text, nodes[0].depth) not in self._seen:
            self._seen.add((text, nodes[0].depth))
            self.counts[step] += 1
            self.examples.setdefault(step, (text, nodes[0].name))
