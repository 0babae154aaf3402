"""Classes are matched with leaves by stated steps, and never by a guess."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sekd.data.class_matching import ClassMatcher, read_aliases, refuse_shared_leaves
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError

BIRDS = Taxonomy.from_paths(
    {
        "Brandt's Cormorant": ["bird", "cormorants", "Brandt's Cormorant"],
        "Black-footed Albatross": ["bird", "albatrosses", "Black-footed Albatross"],
        "red": ["bird", "colours", "red"],
        "also red": ["bird", "others", "red"],
        "phoebe": ["bird", "phoebe"],
        "say's phoebe": ["bird", "phoebe", "say's phoebe"],
        "sea-lion": ["bird", "a", "sea-lion"],
        "sea lion": ["bird", "b", "sea lion"],
    },
    source="birds.json",
)


@pytest.mark.parametrize(
    ("label", "leaf", "step"),
    [
        ("Brandt's Cormorant", "Brandt's Cormorant", "exact"),
        ("bird/others/red", "red", "exact"),
        ("bird%2Fothers%2Fred", "red", "exact"),
        ("BRANDT'S cormorant", "Brandt's Cormorant", "case"),
        ("brandts_cormorant", "Brandt's Cormorant", "punctuation"),
        ("001.Black_footed_Albatross", "Black-footed Albatross", "leading number"),
        ("n01", "Black-footed Albatross", "punctuation, of its other name"),
        ("Brandt", "Brandt's Cormorant", "alias file"),
        ("red", "phoebe", "alias file"),
    ],
)
def test_a_class_is_matched_by_the_first_step_that_finds_one_leaf(
    label: str, leaf: str, step: str
) -> None:
    other_names = {"n01": ["nothing", "black footed albatross"]}
    aliases = {"Brandt": "brandt's cormorant", "red": "phoebe"}
    match = ClassMatcher(BIRDS, other_names, aliases).match(label)
    assert match.leaf is not None
    assert (match.leaf.name, match.step) == (leaf, step)


@pytest.mark.parametrize(
    ("label", "problem"),
    [
        ("Brandt Cormorant", "no leaf 'Brandt Cormorant' in birds.json"),
        ("sea_lion", "'sea_lion' names 2 leaves of birds.json: write the path, e.g. 'bird/a/sea-l"),
        ("cormorants", "no leaf 'cormorants'"),
        ("", "no leaf ''"),
    ],
)
def test_what_no_step_or_several_leaves_match_is_unmatched(label: str, problem: str) -> None:
    match = ClassMatcher(BIRDS).match(label)
    assert (match.leaf, match.step) == (None, "unmatched")
    assert match.problem.startswith(problem)


def test_the_nearest_leaves_are_those_that_look_alike() -> None:
    matcher = ClassMatcher(BIRDS)
    assert matcher.nearest("023.Brandt_Cormorant")[0] == "Brandt's Cormorant"
    assert matcher.nearest("zzz") == ()


@pytest.mark.parametrize(
    ("folder", "leaf"),
    [
        ("phoebe", "phoebe"),
        ("phoebe/2019", "phoebe"),
        ("phoebe/Says_Phoebe", "say's phoebe"),
        ("2019/phoebe", "phoebe"),
        ("phoebe/sea-lion", "phoebe"),
        ("bird/phoebe/says phoebe/x", "say's phoebe"),
    ],
)
def test_of_folders_the_first_leaf_counts_or_a_leaf_below_it(folder: str, leaf: str) -> None:
    match = ClassMatcher(BIRDS, labels_are_paths=True).match(folder)
    assert match.leaf is not None
    assert match.leaf.name == leaf
    assert ClassMatcher(BIRDS).match("x/phoebe").leaf is None  # a label is no path of folders


def test_two_identifiers_of_one_leaf_are_refused_unless_a_person_says_so() -> None:
    other_names = {"n1": ["phoebe"], "n2": ["Phoebe"]}
    matcher = ClassMatcher(BIRDS, other_names)
    with pytest.raises(ConfigError, match=r"'n1' .* and 'n2' .* both match the leaf 'phoebe'"):
        refuse_shared_leaves([matcher.match("n1"), matcher.match("n2")])
    matcher = ClassMatcher(BIRDS, other_names, {"n1": "-", "n2": "phoebe"})
    matches = [matcher.match("n1"), matcher.match("n2")]
    refuse_shared_leaves(matches)
    assert [match.step for match in matches] == ["left out", "alias file"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class,leaf\na,x\na,y\n", r"aliases\.csv, line 3: the class 'a' occurs twice"),
        ("class\na\n", r"aliases\.csv, line 2: no column 'leaf'"),
        ("class,leaf\n,x\n", r"aliases\.csv, line 2: the column 'class' is empty"),
    ],
)
def test_a_malformed_alias_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "aliases.csv").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_aliases(tmp_path / "aliases.csv")


@given(st.text(min_size=1, max_size=20))
def test_any_label_is_matched_or_not_and_never_fails(label: str) -> None:
    for labels_are_paths in (False, True):
        matcher = ClassMatcher(BIRDS, labels_are_paths=labels_are_paths)
        match = matcher.match(label)
        assert (match.leaf is None) == (match.step == "unmatched")
        assert set(matcher.nearest(label)) <= {name for name, _ in BIRDS.labelled_leaves()}
