"""Formats of taxonomies, each as its own program writes it, and files that are refused."""

from __future__ import annotations

import contextlib
import json
import os
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sekd.data.taxonomies import TaxonomyOptions, read_leaf_paths
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file


def paths_of(path: Path, **options: Any) -> dict[str, str]:
    """Read label -> names of the path, joined."""
    leaves = read_leaf_paths(path, TaxonomyOptions(**options))
    return {leaf.label: " > ".join(name for name, _ in leaf.path) for leaf in leaves}


FRUIT = {
    "Golden": "Fruit > Apple > Golden",
    "Pink": "Fruit > Apple > Pink",
    "Avocado": "Fruit > Avocado",
}
LINKS = "id,name,parent_id\n1,Fruit,0\n2,Apple,1\n3,Golden,2\n4,Pink,2\n5,Avocado,1\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.json", '{"Fruit": {"Apple": {"Golden": {}, "Pink": null}, "Avocado": ""}}'),
        ("t.json", '{"Fruit": {"Apple": ["Golden", "Pink"], "Avocado": []}}'),
        ("t.json", '[{"Fruit": [{"Apple": ["Golden", "Pink"]}, "Avocado"]}]'),
        (
            "t.json",
            '{"name": "Fruit", "children": [{"name": "Apple", "children": '
            '[{"name": "Golden"}, {"name": "Pink", "children": []}]}, {"name": "Avocado"}]}',
        ),
        ("t.yaml", "Fruit:\n  Apple: [Golden, Pink]\n  Avocado:\n"),
        ("t.yml", "".join(f"{k}: [{v.replace(' > ', ', ')}]\n" for k, v in FRUIT.items())),
        ("t.csv", "parent,child\nFruit,Apple\nApple,Golden\nApple,Pink\nFruit,Avocado\n"),
        ("t.csv", "child;parent\nApple;Fruit\nGolden;Apple\nPink;Apple\nAvocado;Fruit\n"),
        ("t.csv", "name,parent\nFruit,\nApple,Fruit\nGolden,Apple\nPink,Apple\nAvocado,Fruit\n"),
        ("t.tsv", LINKS.replace(",", "\t").replace("0\n", "\n")),
        ("t.csv", LINKS),
        ("is_a.txt", "Fruit Apple\nApple Golden\nApple Pink\nFruit Avocado\n"),
        ("t.csv", "a,b,c\nFruit,Apple,Golden\nFruit,Apple,Pink\nFruit,,Avocado\n"),
        ("t.csv", "a\tb\tc\nFruit\tApple\tGolden\nFruit\tApple\tPink\nFruit\t\tAvocado\n"),
        ("t.csv", "\ufeffa;b;c\r\nFruit;Apple;Golden\r\nFruit;Apple;Pink\r\nFruit;;Avocado\r\n"),
        ("t.nwk", "((Golden:1.5,Pink)Apple:2,'Avocado'[&&NHX:x])Fruit;\n"),
        ("t.tre", "(((Golden,Pink)0.98,)Apple,Avocado)Fruit;".replace(",)", ")")),
    ],
)  # fmt: skip
def test_every_way_to_write_one_tree_gives_the_same_leaves(
    write: Write, name: str, content: str
) -> None:
    found = paths_of(write(name, content))
    assert {label: found[label] for label in FRUIT} == FRUIT
    assert len(found) == len(FRUIT)


def test_a_table_may_be_xlsx(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (("a", "b"), ("Fruit", "Apple"), ("Fruit", "Kiwi")):
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    assert paths_of(tmp_path / "t.xlsx") == {"Apple": "Fruit > Apple", "Kiwi": "Fruit > Kiwi"}


def test_a_classes_table_is_read_by_the_columns_that_are_named(write: Write) -> None:
    """As that of the Grocery Store Dataset, with a column of ids beside each column of names."""
    path = write(
        "classes.csv",
        "Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int)\n"
        "Golden,0,Apple,0\nPink,1,Apple,0\nAvocado,2,Avocado,1\n",
    )
    with pytest.raises(ConfigError, match=r"'Class ID \(int\)' holds numbers, not names") as error:
        read_leaf_paths(path)
    named = ["Coarse Class Name (str)", "Class Name (str)"]
    assert f"level_names: {named}" in str(error.value)
    assert paths_of(path, level_names=named)["Pink"] == "Apple > Pink"


def test_categories_of_inat_have_seven_ranks_and_common_names(write: Write) -> None:
    category = {
        "id": 0,
        "name": "Corvus corax",
        "common_name": "Common Raven",
        "supercategory": "Birds",
        "kingdom": "Animalia",
        "phylum": "Chordata",
        "class": "Aves",
        "order": "Passeriformes",
        "family": "Corvidae",
        "genus": "Corvus",
        "specific_epithet": "corax",
        "image_dir_name": "03111_Animalia_Chordata_Aves_Passeriformes_Corvidae_Corvus_corax",
    }
    path = write("categories.json", json.dumps({"info": {}, "categories": [category]}))
    (leaf,) = read_leaf_paths(path)
    assert [rank for _, rank in leaf.path][-2:] == ["genus", "species"]
    assert leaf.path[0] == ("Animalia", "kingdom")
    assert leaf.common_name == "Common Raven"
    shown = {
        names: Taxonomy.load(path, leaf_names=names).leaf(category["image_dir_name"]).name  # type: ignore[arg-type]
        for names in ("scientific", "common", "both")
    }
    assert shown == {
        "scientific": "Corvus corax",
        "common": "Common Raven",
        "both": "Common Raven (Corvus corax)",
    }


def test_gbif_taxa_are_linked_by_ids_and_synonyms_are_left_out(write: Write) -> None:
    columns = (
        "taxonID\tparentNameUsageID\tacceptedNameUsageID\tscientificName\tcanonicalName\ttaxonRank"
        "\ttaxonomicStatus"
    )
    rows = [
        '1\t\t\tAnimalia\tAnimalia\tkingdom\taccepted',
        '729\t1\t\tCorvidae Leach, 1820\tCorvidae\tfamily\taccepted',
        '248\t729\t\tCorvus "L." 1758\tCorvus\tgenus\taccepted',
        '249\t248\t\tCorvus corax Linnaeus, 1758\tCorvus corax\tspecies\taccepted',
        '250\t248\t249\tCorvus major\tCorvus major\tspecies\tsynonym',
    ]  # fmt: skip
    folder = write("backbone/Taxon.tsv", "\n".join([columns, *rows])).parent
    (leaf,) = read_leaf_paths(folder)
    assert leaf.path == (
        ("Animalia", "kingdom"),
        ("Corvidae", "family"),
        ("Corvus", "genus"),
        ("Corvus corax", "species"),
    )


def test_catalogue_of_life_is_read_with_its_prefixed_columns(write: Write) -> None:
    text = (
        "col:ID\tcol:parentID\tcol:status\tcol:scientificName\tcol:authorship\tcol:rank\n"
        "N\t\taccepted\tAnimalia\t\tkingdom\n"
        "6MB3T\tN\tprovisionally accepted\tCorvus\tL.\tgenus\n"
        "X\t6MB3T\tsynonym\tCorvultur\tLesson\tgenus\n"
    )
    assert paths_of(write("col/NameUsage.tsv", text).parent) == {"Corvus": "Animalia > Corvus"}


def test_darwin_core_with_rank_columns_leaves_its_other_columns_out(write: Write) -> None:
    text = (
        "taxonID,scientificName,taxonRank,kingdom,class,family,vernacularName\n"
        "1,Corvus corax,species,Animalia,Aves,Corvidae,Common Raven\n"
    )
    (leaf,) = read_leaf_paths(write("occurrence.csv", text))
    assert [name for name, _ in leaf.path] == ["Animalia", "Aves", "Corvidae", "Corvus corax"]
    assert leaf.common_name == "Common Raven"


NODES = "1\t|\t1\t|\tno rank\t|\t\t|\n2759\t|\t1\t|\tdomain\t|\t\t|\n9606\t|\t2759\t|\tspecies\t|\n"
NAMES = (
    "1\t|\troot\t|\t\t|\tscientific name\t|\n"
    "2759\t|\tEukaryota\t|\t\t|\tscientific name\t|\n"
    "9606\t|\thuman\t|\t\t|\tgenbank common name\t|\n"
    "9606\t|\tHomo sapiens\t|\t\t|\tscientific name\t|\n"
)


def test_ncbi_dumps_are_joined_by_their_ids(write: Write) -> None:
    write("names.dmp", NAMES)
    path = write("nodes.dmp", NODES)
    for place in (path, path.parent):
        (leaf,) = read_leaf_paths(place)
        assert leaf.path == (("root", None), ("Eukaryota", "domain"), ("Homo sapiens", "species"))
        assert (leaf.common_name, leaf.other_names) == ("human", ("9606",))
    write("nodes.dmp", NODES.replace("2759\t|\t1\t", "2759\t|\t7\t"))
    with pytest.raises(ConfigError, match=r"nodes\.dmp, line 2: there is no node '7', its parent"):
        read_leaf_paths(path)


WORDNET = (
    "  1 This software and database is being provided to you\n"
    "00001740 03 n 01 entity 0 001 ~ 00001930 n 0000 | that which is\n"
    "00015388 05 n 02 animal 0 animate_being 0 001 @ 00001740 n 0000 | a living organism\n"
    "01317541 05 n 01 domestic_animal 0 001 @ 00015388 n 0000 | tamed\n"
    "02083346 05 n 01 canine 0 001 @ 00015388 n 0000 | any of various\n"
    "02084071 05 n 02 dog 0 Canis_familiaris 0 002 @ 02083346 n 0000 @ 01317541 n 0000 | a member\n"
)


def test_wordnet_is_a_graph_that_is_cut_on_request_alone(write: Write) -> None:
    path = write("data.noun", WORDNET)
    with pytest.raises(
        ConfigError,
        match="line 6: 'dog' has 2 parents: the edges 'canine' > 'dog' and 'domestic animal' > ",
    ):
        read_leaf_paths(path)
    (leaf,) = read_leaf_paths(path, TaxonomyOptions(several_parents="first"))
    assert [name for name, _ in leaf.path] == ["entity", "animal", "canine", "dog"]
    assert leaf.other_names == ("n02084071", "Canis familiaris")
    asked = TaxonomyOptions(several_parents="shortest", only=frozenset({"n01317541"}))
    assert [leaf.label for leaf in read_leaf_paths(path, asked)] == ["domestic animal"]
    with pytest.raises(ConfigError, match="1 of 1 leaves are not in it: 'n1'"):
        read_leaf_paths(path, TaxonomyOptions(several_parents="first", only=frozenset({"n1"})))


def test_the_shorter_of_two_ways_to_the_root_is_taken(write: Write) -> None:
    text = "parent,child\na,b\nb,c\nc,leaf\nb,leaf\n"
    path = write("t.csv", text)
    for rule, expected in (("first", "a > b > c > leaf"), ("shortest", "a > b > leaf")):
        assert paths_of(path, several_parents=rule)["leaf"] == expected


def test_folders_with_images_are_a_tree(tmp_path: Path) -> None:
    for name in (
        "Fruit/Apple/Golden/1.jpg",
        "Fruit/Avocado/x.png",
        "Fruit/notes.txt",
        ".git/a.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert paths_of(tmp_path) == {
        "Fruit/Apple/Golden": "Fruit > Apple > Golden",
        "Fruit/Avocado": "Fruit > Avocado",
    }


def test_all_published_taxonomies_load(shared_data: Path) -> None:
    for path in (shared_data / "taxonomies").glob("*.json"):
        assert len(Taxonomy.load(path)) > 84, path


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "t.json",
            '{"crow": ["crow", "corvids", "bird"], "owl": ["owl", "owls", "bird"]}',
            r"its path runs from the leaf to the root \(crow > corvids > bird\)",
        ),
        ("t.json", '{"bird": ["crow", "owl"], "fish": ["cod"]}', "look like its children"),
        ("t.json", '{"a": {"b": 1.5}}', "a > b: expected a subtree .* got 1.5"),
        ("t.json", "[" * 100_000, "not valid JSON: RecursionError"),
        ("t.json", '{"a": ' + "9" * 6000 + "}", "not valid JSON: ValueError"),
        ("t.json", '{"a": ["x\\ud800", "a"]}', "is no text: it holds a NUL or a lone surrogate"),
        ("t.json", '{"a": ["x\\u0000", "a"]}', "is no text: it holds a NUL"),
        ("t.json", "\ufeff", "not valid JSON"),
        ("t.json", b"\xff\xfe{\x00}\x00", "line 1: not in UTF-8"),
        ("t.json", "\0", "not valid JSON"),
        ("t.yaml", "a: &a [x]\nb: *c\n", "not valid YAML"),
        ("t.yaml", "a: &a [*a]\n", "its aliases stand for"),
        (
            "t.yaml",
            "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
            + "".join(
                f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n"
                for a, b in zip("abcdefgh", "bcdefghi", strict=True)
            ),
            "its aliases stand for",
        ),
        ("t.csv", "parent,child\na,b\nb,a\n", "line 2: links run in a cycle: b > a > b"),
        (
            "t.csv",
            "id,name,parent_id\n1,a,\n2,b,7\n",
            "line 3: no row has .* parent, '7'",
        ),
        ("t.csv", "parent,child\na,x\nb,x\n", "line 2: 'x' has 2 parents: the edges 'a' > 'x'"),
        (
            "t.csv",
            "species,family\ncrow,corvids\nraven,corvids\nrook,corvids\nowl,owls\n",
            r"from the leaf to the root \(species > family\).*: \['family', 'species'\]",
        ),
        ("t.csv", "id,name\n1,a\n2,b\n", "the column 'id' holds numbers, not names"),
        ("t.nwk", "((a,b)c", "the tree does not end with ';'"),
        ("t.nwk", "((a,b)c;", "1 brackets are not closed"),
        ("t.nwk", "a,b)c;", "a bracket is closed that was not opened"),
        ("t.nwk", "(a,,b)c;", "line 1: a leaf without a name"),
        ("t.nwk", "(a,'b)c;", "line 1: not Newick"),
        ("t.dmp", "", "nodes.dmp: no such file"),
        ("data.noun", "00001740 03 n zz\n", "line 1: not a line of WordNet's data.noun"),
        ("t.txt", "a\tb\tb\n", "line 1: two columns of one name"),
        ("train.txt", "train/Apple/1.jpg, 0, 0\n", "line 1: no taxonomy: expected cells"),
    ],
)
def test_malformed_files_are_refused_with_their_place(
    write: Write, name: str, content: str | bytes, message: str
) -> None:
    path = write(name, content)
    with pytest.raises(ConfigError, match=message) as error:
        Taxonomy.load(path)
    assert str(path.parent) in str(error.value)
    assert "\n" not in str(error.value)


SUFFIXES = (".json", ".yaml", ".csv", ".tsv", ".txt", ".jsonl", ".nwk", ".dmp", ".noun", ".parquet")
PIECES = (
    *('{"a": ', '["a", "b"]', "}", ",", "\n", "\r\n", "\0", "\ufeff", "(a,b)", ";", "\t", "|", '"'),
    *("parent,child\n", "a,b\n", "id,", "1740 03 n 01 x 0 000 |"),
)


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.sampled_from(SUFFIXES),
    st.one_of(
        st.binary(max_size=60),
        st.lists(st.one_of(st.sampled_from(PIECES), st.text(string.printable, max_size=3)))
        .map("".join)
        .map(str.encode),
    ),
)
def test_any_bytes_are_read_or_refused_on_one_line(
    tmp_path: Path, suffix: str, content: bytes
) -> None:
    path = tmp_path / f"fuzz{suffix}"
    path.write_bytes(content)
    with contextlib.suppress(ConfigError):  # any other error fails the test
        Taxonomy.load(path)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t.json")
    with pytest.raises(ConfigError, match=r"t\.json: not a regular file"):
        Taxonomy.load(tmp_path / "t.json")
