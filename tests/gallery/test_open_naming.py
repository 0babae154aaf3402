"""Open naming with whole real vocabularies, over real taxonomies and the hardest names.

Whatever tokens a vocabulary has, each answer must be the text of a path, and the branches that it
passes must lead to it alone.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from chats import CHATML, SPECIAL
from gallery_tokenizers import available_kinds, build_tokenizer

from sekd.data.taxonomy import Node, Taxonomy
from sekd.models import prompts
from sekd.models.chat import Chat
from sekd.models.open_naming import OpenAnswers

NUM_LEAVES = 40


@pytest.fixture(scope="module", params=available_kinds())
def chat(request: pytest.FixtureRequest) -> Chat:
    tokenizer = build_tokenizer(request.param, SPECIAL, eos_token="<|im_end|>")
    tokenizer.chat_template = CHATML
    processor: Any = SimpleNamespace(tokenizer=tokenizer, image_token="<image>", chat_template=None)
    return Chat(processor, subject="organism")


def leaves_of(taxonomy: Taxonomy) -> list[Node]:
    return [node for node in taxonomy.nodes if node.id in taxonomy.leaf_ids]


def names_to(taxonomy: Taxonomy, leaf: Node) -> list[str]:
    return [taxonomy.root.name or "root", *(node.name for node in taxonomy.path(leaf))]


def hardest(taxonomy: Taxonomy) -> list[Node]:
    """Leaves with names that are prefixes of others or not ASCII, and some evenly from all."""
    leaves = leaves_of(taxonomy)
    by_name = sorted(leaves, key=lambda leaf: (leaf.name, leaf.id))
    pairs = (pair for pair in pairwise(by_name) if pair[1].name.startswith(pair[0].name))
    prefixes = [leaf for pair in pairs for leaf in pair][: NUM_LEAVES // 4]
    unicode = [leaf for leaf in leaves if not leaf.name.isascii()][: NUM_LEAVES // 4]
    evenly = leaves[:: len(leaves) // (NUM_LEAVES // 2)]
    return list({leaf.id: leaf for leaf in (*prefixes, *unicode, *evenly)}.values())


def text_of(chat: Chat, taxonomy: Taxonomy, leaf: Node) -> str:
    return "\n".join(prompts.open_line(node, chat.wording) for node in taxonomy.path(leaf))


def check(chat: Chat, taxonomy: Taxonomy, leaves: list[Node]) -> None:
    """Check that each leaf's answer is its text, and that its branches lead to it alone."""
    answers = OpenAnswers(chat, taxonomy)
    assert answers.all.stop == len(leaves_of(taxonomy))
    for leaf in leaves:
        transcript = answers.transcript(leaf)
        token_ids = transcript.token_ids
        start = transcript.is_target.index(True)
        assert all(transcript.is_target[start:])
        assert token_ids[-1] == chat.stop_id
        written = chat.decode(token_ids[start:-1])
        # Some tokenizers compose accents, and some write a space in front of each text.
        expected, found = (
            unicodedata.normalize("NFC", text).strip()
            for text in (text_of(chat, taxonomy, leaf), written)
        )
        assert found == expected, leaf.id
        reached = answers.all
        for _, branch, index in answers.branches_to(leaf):
            place = len(branch.prefix_ids)
            assert token_ids[: place + 1] == (*branch.prefix_ids, branch.token_ids[index])
            assert len(set(branch.token_ids)) == len(branch.token_ids) > 1
            assert [*numbers(branch.ranges)] == [*range(*reached)]
            reached = branch.ranges[index]
        assert reached.stop - reached.start == 1
        path = taxonomy.path(leaf)
        assert answers.outcomes(reached, len(path) - 1) == (leaf,)


def numbers(ranges: Any) -> Iterator[int]:
    for one in ranges:
        yield from range(*one)


@pytest.mark.parametrize("name", ["CUB200", "Inat_animal", "Inat_plantae", "imagenet_artifact"])
def test_every_answer_is_the_text_of_a_real_path(chat: Chat, shared_data: Path, name: str) -> None:
    whole = Taxonomy.load(shared_data / f"taxonomies/hierarchy_{name}.json")
    leaves = hardest(whole)
    assert len(leaves) >= NUM_LEAVES // 2
    taxonomy = Taxonomy.from_paths({leaf.id: names_to(whole, leaf) for leaf in leaves})
    check(chat, taxonomy, leaves_of(taxonomy))


def test_prefixes_unicode_and_leaves_with_children_are_told_apart(chat: Chat) -> None:
    names = (
        "Pica", "Pica pica", "Pica pica minor", "P", "Pi", "Pico", "café", "cafe",
        "鷗", "鷗鷗", "Ца́пля", "\N{PERSON WITH HEADSCARF}", "a", "A", "1", "12",
    )  # fmt: skip
    paths = {f"a {name}": ["root", "Aves", name] for name in names}
    paths |= {f"b {name}": ["root", "Aves minor", name] for name in names}
    paths |= {"Aves": ["root", "Aves"], "Pica": ["root", "Aves", "Pica", "x"]}
    taxonomy = Taxonomy.from_paths(paths)
    assert taxonomy.children(taxonomy.leaf("Aves"))
    check(chat, taxonomy, leaves_of(taxonomy))
