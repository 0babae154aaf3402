"""Taxonomies of all shapes, with the names that are hardest to tell apart by their tokens."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import assume
from hypothesis import strategies as st

from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError

NAMES = (
    "Picus", "Picus minor", "Picus minor minor", "Pica", "Pica pica", "P", "Pi", "pica", "B",
    "A. B", "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}", "鷗",
    "鷗鷗", "a\nb", "a b", " a", "a ", "level 2: B", "100 %", "{name}", "--", "x" * 40,
    "\N{PERSON WITH HEADSCARF}",
)  # fmt: skip
"""Prefixes of one another, names that share a first token, single tokens, both Unicode forms of a
name, line breaks, and names that look like a line of an answer."""


@st.composite
def taxonomies(draw: st.DrawFn, names: Sequence[str] = NAMES) -> Taxonomy:
    """Draw a taxonomy of 1 to 12 paths of 1 to 5 names; a path may end inside another."""
    paths = draw(
        st.lists(
            st.lists(st.sampled_from(names), min_size=1, max_size=5),
            min_size=1,
            max_size=12,
            unique_by=tuple,
        )
    )
    if draw(st.booleans()):
        paths = [["root", *path] for path in paths]
    try:
        return Taxonomy.from_paths({str(number): path for number, path in enumerate(paths)})
    except ConfigError:  # a name comes back later in its path
        assume(False)
        raise
