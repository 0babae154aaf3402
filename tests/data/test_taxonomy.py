"""Taxonomies: what is read from files, which inputs are refused, and what the digest covers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sekd.data.taxonomies.base import LeafPath
from sekd.data.taxonomy import Taxonomy, name_of
from sekd.errors import ConfigError

SHARED = Path(os.environ.get("SEKD_SHARED_DATA", Path(__file__).parents[3] / "shared/data"))

BIRDS = {
    "Crow": ["animal", "bird", "corvid", "Crow"],
    "Magpie": ["animal", "bird", "corvid", "Magpie"],
    "Robin": ["animal", "bird", "Robin"],
    "Dog": ["animal", "Dog"],
}
RANKS = ("kingdom", "class", "family", "species")


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    def write_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


def names(taxonomy: Taxonomy, label: str) -> list[tuple[str, str]]:
    return [(node.rank, node.name) for node in taxonomy.path(taxonomy.leaf(label))]


def test_json_with_shared_top_has_an_explicit_root_and_ragged_depths(
    write: Callable[..., Path],
) -> None:
    taxonomy = Taxonomy.load(write("t.json", json.dumps(BIRDS)), level_names=RANKS)
    assert (taxonomy.root.name, taxonomy.root.rank, taxonomy.root.depth) == (
        "animal",
        "kingdom",
        0,
    )
    assert names(taxonomy, "crow") == [("class", "bird"), ("family", "corvid"), ("species", "Crow")]
    assert names(taxonomy, "ROBIN") == [("class", "bird"), ("family", "Robin")]
    assert [node.name for node in taxonomy.children(taxonomy["animal/bird"])] == ["corvid", "Robin"]
    assert {node.name for node in taxonomy.peers(taxonomy.leaf("robin"))} == {"corvid", "Robin"}
    assert taxonomy.path(taxonomy.root) == []


@pytest.mark.parametrize(
    "paths",
    [
        {"a": ["x", "a"], "b": ["y", "b"]},  # two tops
        {"a": ["a"], "b": ["a", "b"]},  # one top, which is itself a leaf
    ],
)
def test_paths_without_a_shared_top_get_an_implicit_root(paths: dict[str, list[str]]) -> None:
    taxonomy = Taxonomy.from_paths(paths)
    assert (taxonomy.root.name, taxonomy.root.id) == ("", "")
    assert names(taxonomy, "b") == [
        (f"level {depth}", name) for depth, name in enumerate(paths["b"], start=1)
    ]


def test_csv_header_names_ranks_and_empty_cells_skip_them(write: Callable[..., Path]) -> None:
    text = "\ufeffkingdom,class,family,species\nA,bird,corvid,crow\n\nA,bird,, robin \nA,fish,,\n"
    taxonomy = Taxonomy.load(write("t.csv", text))
    assert taxonomy.root.rank == "kingdom"
    assert names(taxonomy, "robin") == [("class", "bird"), ("species", "robin")]
    assert names(taxonomy, "fish") == [("class", "fish")]
    # Of one rank but not of one depth: a species is a wrong option beside every other one.
    crow, robin = taxonomy.leaf("crow"), taxonomy.leaf("robin")
    assert taxonomy.peers(robin) == taxonomy.peers(crow) == [crow, robin]


def test_ranks_are_listed_from_the_top_also_where_paths_lack_some() -> None:
    ragged = {
        "corvus": [("animalia", "kingdom"), ("corvidae", "family"), ("corvus", "genus")],
        "pica": [("animalia", "kingdom"), ("pies", "order"), ("pp", "family"), ("pica", "genus")],
        "adelie": [("animalia", "kingdom"), ("pies", "order")],
    }
    leaves = [LeafPath("here", label, path) for label, path in ragged.items()]
    assert Taxonomy(leaves, "t").ranks == ["order", "family", "genus"]


def test_namesakes_stay_apart() -> None:
    taxonomy = Taxonomy.from_paths(
        {
            "phoebe": ["tyrants", "sayornis", "phoebe"],
            "sayornis": ["tyrants", "sayornis", "sayornis"],  # a genus and its species
            "red alba": ["reds", "alba"],
            "blue alba": ["blues", "alba"],
        }
    )
    assert [node.name for node in taxonomy.path(taxonomy.leaf("sayornis"))][1:] == ["sayornis"] * 2
    assert taxonomy.leaf("red alba") != taxonomy.leaf("blue alba")
    assert {node.id for node in taxonomy.named("ALBA", 2)} == {"reds/alba", "blues/alba"}


def test_a_name_may_follow_itself_more_than_once() -> None:
    taxonomy = Taxonomy.from_paths({"bison": ["cattle", "bison", "bison", "bison"], "x": ["x"]})
    assert taxonomy.leaf("bison").id == "cattle/bison/bison/bison"


def test_slash_and_percent_in_names_do_not_merge_nodes() -> None:
    taxonomy = Taxonomy.from_paths(
        {"1": ["a/b", "c"], "2": ["a", "b/c"], "3": ["a%2Fb", "c"], "4": ["a", "b", "c"]}
    )
    assert len({taxonomy.leaf(label).id for label in "1234"}) == 4
    assert len(taxonomy) == len(set(taxonomy.nodes)) == 1 + 2 + 2 + 2 + 2


def test_leaf_takes_labels_and_ids_of_leaves_only(write: Callable[..., Path]) -> None:
    path = write("t.csv", "order,species\nreds,alba\nblues,alba\nblues,sky\n")
    taxonomy = Taxonomy.load(path)
    assert taxonomy.leaf("blues/alba").parent == "blues"
    for label, message in {
        "alba": "names 2 leaves: write the path, e.g. 'reds/alba'",
        "skye": f"no leaf 'skye' in {path}; did you mean 'sky'?",
        "blues": "no leaf 'blues'",  # a folder tree by order must not pass for one by species
        "": "no leaf ''",
    }.items():
        with pytest.raises(LookupError, match=message):
            taxonomy.leaf(label)


def test_a_label_wins_over_another_node_of_that_id() -> None:
    taxonomy = Taxonomy.from_paths({"rose": ["plants", "rose"], "pink": ["rose", "pink"]})
    assert taxonomy.leaf("rose").id == "plants/rose"


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ({}, "no leaf"),
        ({"a": ["x", "y", "x", "a"]}, "leaf 'a': the path runs in a cycle: x > y > x"),
        ({"a": ["x", "a"], "b": ["x", "a"]}, "leaf 'b': the path of 'b' is the one of 'a'"),
        ({"a": ["x", "  ", "a"]}, "leaf 'a': name 2 of the path is empty"),
        ({"a": ["k", "c", "f", "s", "a"]}, "has 5 levels .* but level_names has 4"),
    ],
)
def test_bad_paths_are_refused(paths: dict[str, list[str]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Taxonomy.from_paths(paths, level_names=RANKS)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.json", '{"a": ["x", "a"], "a": ["y", "a"]}', "the leaf 'a' occurs twice"),
        ("t.json", '"a"', "expected an object"),
        ("t.json", '{"a": "x > a"}', "leaf 'a': expected a list of names, root first, got 'x > a'"),
        ("t.json", '{"a": []}', "leaf 'a': expected a list"),
        ("t.json", "{", "not valid JSON"),
        ("t.doc", "", "a taxonomy is a folder, or ends in .json"),
        ("t.csv", "", "line 1: expected a header"),
        ("t.csv", "order,order\nx,a\n", "line 1: two columns of one name"),
        ("t.csv", "order,\nx,a\n", "line 1: expected a header with one distinct name per rank"),
        ("t.csv", "order,species\nx,a\nx,a,b\n", "line 3: 3 cells under 2 columns"),
        ("t.csv", "order,species\nx,a\n,\n", "line 3: the row is empty"),
        (
            "t.csv",
            "order,species\nx,a\nx,a\n",
            "line 3: the path of 'a' is the one of 'a' .*line 2",
        ),
        ("t.csv", 'order,species\nx,"a\nx,b\n', "not a CSV file"),
        ("t.csv", "order,species\nx,Rüppell\n".encode("latin-1"), "not a CSV file in UTF-8"),
        (
            "t.csv",
            "order,family,genus\nx,,b\nx,b,c\n",
            "line 3: 'b' has the rank 'family' here and 'genus' above",
        ),
    ],
)
def test_bad_files_are_refused(
    write: Callable[..., Path], name: str, content: str | bytes, message: str
) -> None:
    path = write(name, content)
    with pytest.raises(ConfigError, match=message) as raised:
        Taxonomy.load(path)
    assert str(path) in str(raised.value)


def test_missing_file_and_level_names_of_a_csv_are_refused(write: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="no such taxonomy file"):
        Taxonomy.load(Path("missing.json"))
    with pytest.raises(ConfigError, match="there is no column 'ordr'; did you mean order"):
        Taxonomy.load(write("t.csv", "order\na\n"), level_names=("ordr",))


def test_digest_covers_what_questions_are_made_from(write: Callable[..., Path]) -> None:
    def digest(paths: dict[str, list[str]], level_names: tuple[str, ...] = RANKS) -> str:
        return Taxonomy.from_paths(paths, level_names=level_names, source="anywhere").digest()

    base = digest(BIRDS)
    assert base == Taxonomy.load(write("t.json", json.dumps(BIRDS)), level_names=RANKS).digest()
    changed = [
        digest(BIRDS, ("kingdom", "class", "genus", "species")),
        digest(dict(reversed(BIRDS.items()))),  # the order of nodes decides which are drawn
        digest(BIRDS | {"Dog": ["animal", "dog"]}),
        digest({label.replace("Dog", "Hound"): path for label, path in BIRDS.items()}),
        digest(BIRDS | {"Robin": ["animal", "bird", "corvid", "Robin"]}),
    ]
    assert len({base, *changed}) == 1 + len(changed)


@given(st.text(st.sampled_from("/%25Fa "), min_size=1).filter(str.strip))
def test_a_name_comes_back_from_the_id_alone(name: str) -> None:
    taxonomy = Taxonomy.from_paths({"leaf": ["root", "x", name], "other": ["root", "y"]})
    assert name_of(taxonomy.leaf("leaf").id) == name


@pytest.mark.parametrize(
    ("name", "root", "num_leaves", "depths"),
    [
        ("CUB200", "", 200, {4}),
        ("Food", "food", 84, {2, 3, 4}),
        ("Inat_animal", "Animalia", 5388, {6}),
        ("Inat_plantae", "Plantae", 4271, {6}),
        ("imagenet_animal", "animal", 397, set(range(3, 12))),
        ("imagenet_artifact", "artifact", 494, set(range(2, 8))),
    ],
)
def test_published_taxonomies_load(name: str, root: str, num_leaves: int, depths: set[int]) -> None:
    path = SHARED / f"taxonomies/hierarchy_{name}.json"
    if not path.is_file():
        pytest.skip(f"{path} is absent; SEKD_SHARED_DATA names its folder")
    taxonomy = Taxonomy.load(path)
    content = json.loads(path.read_text("utf-8"))
    assert taxonomy.root.name == root
    assert len(content) == num_leaves
    leaves = {label: taxonomy.leaf(label) for label in content}
    assert len({leaf.id for leaf in leaves.values()}) == num_leaves
    assert {leaf.depth for leaf in leaves.values()} == depths
    for label, leaf in leaves.items():
        path_names = [node.name for node in taxonomy.path(leaf)]
        assert ([root] if root else []) + path_names == content[label]
