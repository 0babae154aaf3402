"""Questions: drawn options, and options that a row brings along."""

from __future__ import annotations

import random
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sekd.data.questions import (
    Question,
    given_questions,
    has_lookalikes,
    labelled_questions,
    option_key,
    shown_text,
)
from sekd.data.taxonomy import Node, Taxonomy
from sekd.errors import SampleError

Mode = Literal["random", "siblings"]


@st.composite
def taxonomies(draw: st.DrawFn) -> Taxonomy:
    """Ragged trees of 1 to 4 levels in which names recur under other parents."""
    paths = st.lists(st.sampled_from("abcd"), min_size=1, max_size=4).map(
        lambda path: tuple(f"{depth}{name}" for depth, name in enumerate(path))
    )
    return Taxonomy.from_paths(
        {"/".join(path): path for path in draw(st.sets(paths, min_size=1, max_size=25))}
    )


def ask(
    taxonomy: Taxonomy,
    label: str,
    mode: Mode,
    *,
    sample_id: str = "s",
    num_options: int = 4,
    seed: int = 0,
) -> list[Question]:
    return labelled_questions(
        taxonomy,
        taxonomy.leaf(label),
        sample_id=sample_id,
        distractors=mode,
        num_options=num_options,
        seed=seed,
    )


@pytest.mark.parametrize("mode", ["random", "siblings"])
@given(taxonomy=taxonomies(), data=st.data())
@settings(max_examples=60, deadline=None)
def test_drawn_options_are_the_right_node_and_its_peers(
    mode: Mode, taxonomy: Taxonomy, data: st.DataObject
) -> None:
    label = data.draw(st.sampled_from(sorted(taxonomy.labels)))
    num_options = data.draw(st.integers(2, 6))
    questions = ask(taxonomy, label, mode, num_options=num_options)
    path = taxonomy.path(taxonomy.leaf(label))
    assert [question.truth for question in questions] == path
    assert [question.level for question in questions] == list(range(1, len(path) + 1))
    for question, node in zip(questions, path, strict=True):
        peers, options = taxonomy.peers(node), question.options
        assert node in options
        assert set(options) <= set(peers)
        keys = {option_key(option.name) for option in options}
        assert len(keys) == len(options)
        assert len(options) == min(num_options, len({option_key(peer.name) for peer in peers}))
        assert question.letters == "ABCDEF"[: len(options)]
        if mode == "siblings":
            siblings = {option_key(p.name): p for p in peers if p.parent == node.parent}
            shown = [option for option in options if option.parent == node.parent]
            assert len(shown) == min(num_options, len(siblings))


@pytest.mark.parametrize("mode", ["random", "siblings"])
@given(taxonomy=taxonomies(), num_options=st.integers(2, 26), seed=st.integers())
@settings(max_examples=60, deadline=None)
def test_where_no_names_read_alike_the_options_are_those_of_a_scan(
    mode: Mode, taxonomy: Taxonomy, num_options: int, seed: int
) -> None:
    """The way in which earlier versions drew them, which looked at every node of the level."""
    for label in taxonomy.labels:
        for question in ask(taxonomy, label, mode, num_options=num_options, seed=seed):
            node = question.truth
            assert node is not None
            rng = random.Random(f"{seed}:s:{node.depth}")
            peers = [peer for peer in taxonomy.peers(node) if peer != node]
            wrong: list[Node] = []
            if mode == "siblings":
                siblings = [peer for peer in peers if peer.parent == node.parent]
                wrong = rng.sample(siblings, min(len(siblings), num_options - 1))
                peers = [peer for peer in peers if peer.parent != node.parent]
            wrong += rng.sample(peers, min(len(peers), num_options - 1 - len(wrong)))
            options = [node, *wrong]
            rng.shuffle(options)
            if len({option_key(option.name) for option in options}) == len(options):
                assert list(question.options) == options


LOOKALIKES = Taxonomy.from_paths(
    {
        "apple": ["red", "\u00e9clair"],
        "berry": ["Red ", "E\u0301CLAIR"],
        "chili": ["RED", "ﬁg"],
        "date": ["blue", "fig"],
        "elder": ["blue", "grape\nB. plum"],
    }
)


@pytest.mark.parametrize("mode", ["random", "siblings"])
def test_no_two_options_of_a_question_read_alike(mode: Mode) -> None:
    for label in LOOKALIKES.labels:
        for number in range(20):
            questions = ask(LOOKALIKES, label, mode, sample_id=str(number))
            assert [len(question.options) for question in questions] == [2, 3]
            for question in questions:
                assert question.truth in question.options
                keys = {option_key(option.name) for option in question.options}
                assert len(keys) == len(question.options)


def test_names_that_read_alike_have_one_key() -> None:
    assert option_key("Fig  TREE") == option_key("ﬁg\u00a0tree") == "fig tree"
    assert len({option_key(name) for name in ("fig tree", "figtree", "fig-tree")}) == 3


@given(name=st.text())
def test_a_name_is_shown_in_one_line(name: str) -> None:
    assert len(shown_text(f"a{name}b").splitlines()) == 1
    assert shown_text(name) == name or not name.isprintable()


def test_given_options_are_refused_where_two_read_alike() -> None:
    taxonomy = Taxonomy.from_paths({"a": ["x", "Red"], "b": ["x", "red"], "c": ["y", "blue"]})
    eclairs = [["Red ", "blue"], ["E\u0301CLAIR", "\u00e9clair"]]
    with pytest.raises(SampleError, match="read alike"):
        given_questions(LOOKALIKES, LOOKALIKES.leaf("berry"), eclairs)
    assert [has_lookalikes(each) for each in (taxonomy, LOOKALIKES, WIDE)] == [True, True, False]


WIDE = Taxonomy.from_paths(
    {f"{a}{b}": [f"top {a}", f"leaf {a}{b}"] for a in "uvwxyz" for b in "123456"}
)


@pytest.mark.parametrize("mode", ["random", "siblings"])
def test_options_depend_on_seed_id_and_level_alone(mode: Mode) -> None:
    base = ask(WIDE, "u1", mode)
    assert base == ask(WIDE, "u1", mode)
    assert base != ask(WIDE, "u1", mode, sample_id="t")
    assert base != ask(WIDE, "u1", mode, seed=1)
    # The first level does not change with the leaf below it, nor with what is drawn there.
    assert ask(WIDE, "u2", mode)[0] == base[0]
    shallow = Taxonomy.from_paths({label: [f"top {label}"] for label in "uvwxyz"})
    (first,) = ask(shallow, "u", mode)
    assert [node.name for node in first.options] == [node.name for node in base[0].options]


def test_the_right_letter_is_spread_evenly() -> None:
    counts = [0] * 4
    for number in range(400):
        question = ask(WIDE, "u1", "random", sample_id=str(number))[-1]
        counts[question.options.index(WIDE.leaf("u1"))] += 1
    assert min(counts) > 70  # 100 expected, standard deviation 9


def test_drawn_options_are_those_of_earlier_versions() -> None:
    # Pinned: another random stream would give a stored run's questions other options.
    first, second = ask(WIDE, "u1", "siblings", sample_id="a/1.jpg")
    assert [node.name for node in first.options] == ["top v", "top z", "top u", "top x"]
    assert [node.name for node in second.options] == ["leaf u6", "leaf u1", "leaf u3", "leaf u5"]


def test_a_level_whose_nodes_all_read_alike_is_given() -> None:
    one = Taxonomy.from_paths({"a": ["r", "x", "a"], "b": ["r", "x", "b"]})
    assert [question.is_given for question in ask(one, "a", "random")] == [True, False]
    alike = Taxonomy.from_paths({"a": ["x", "Red", "a"], "b": ["y", "red", "b"]})
    assert [question.is_given for question in ask(alike, "a", "random")] == [False, True, False]


def test_a_question_asks_for_the_rank_that_it_is_told() -> None:
    nodes = tuple(WIDE.children(WIDE.root))
    assert Question(1, nodes, None).rank == nodes[0].rank
    assert Question(1, nodes, nodes[1], "order").rank == "order"


NAMESAKES = Taxonomy.from_paths(
    {
        "red alba": ["reds", "alba"],
        "blue alba": ["blues", "alba"],
        "sky": ["blues", "sky"],
        **{f"leaf {n}": ["many", f"leaf {n}"] for n in range(26)},
    }
)


def test_given_options_keep_their_order_and_mean_the_right_namesake() -> None:
    leaf = NAMESAKES.leaf("blue alba")
    first, second = given_questions(NAMESAKES, leaf, [["REDS", "Blues"], ["sky", "Alba"]])
    assert [node.id for node in first.options] == ["reds", "blues"]
    assert [node.id for node in second.options] == ["blues/sky", "blues/alba"]
    assert second.truth == leaf


@pytest.mark.parametrize(
    ("choices", "level", "message"),
    [
        ([["blues"]], None, "1 levels of options for a path of 2 levels"),
        ([["reds", "many"], ["sky", "alba"]], 1, "must hold 'blues'"),
        ([["blues"], ["sky", "alba", "reds"]], 2, "'reds' is no node at level 2"),
        ([["blues"], ["sky", "alba", "Alba"]], 2, "no name twice"),
        ([["blues"], ["alba", *(f"leaf {n}" for n in range(26))]], 2, "27 options, more than"),
    ],
)
def test_given_options_that_do_not_fit_are_refused(
    choices: list[list[str]], level: int | None, message: str
) -> None:
    with pytest.raises(SampleError, match=message) as raised:
        given_questions(NAMESAKES, NAMESAKES.leaf("blue alba"), choices)
    assert raised.value.level == level
