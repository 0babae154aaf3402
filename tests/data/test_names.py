"""Names are matched by the first step that finds them, and never by more."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sekd.data.names import NAME_STEPS, NameIndex, strip_option_letter

BIRDS = ("Black-footed Albatross", "Brandt's Cormorant", "Artic Tern", "Café Finch", "C. elegans")


def _index(*names: str) -> NameIndex[str]:
    return NameIndex((name, name) for name in names)


def _found(index: NameIndex[str], text: str) -> Sequence[str]:
    match = index.find(text)
    return match.values if match else ()


@pytest.mark.parametrize(
    ("text", "name", "step"),
    [
        ("Artic Tern", "Artic Tern", "exact"),
        (" Artic Tern\n", "Artic Tern", "exact"),
        ("artic tern", "Artic Tern", "case"),
        ("Cafe\N{COMBINING ACUTE ACCENT} finch", "Café Finch", "Unicode form"),
        ("ARTIC\N{NO-BREAK SPACE}TERN", "Artic Tern", "Unicode form"),
        ("Artic_Tern", "Artic Tern", "punctuation"),
        ("black_footed  albatross", "Black-footed Albatross", "punctuation"),
        ("Black\N{NON-BREAKING HYPHEN}footed Albatross", "Black-footed Albatross", "punctuation"),
        ("brandts cormorant.", "Brandt's Cormorant", "punctuation"),
        ("Brandt\N{RIGHT SINGLE QUOTATION MARK}s Cormorant", "Brandt's Cormorant", "punctuation"),
        ("141.Artic_Tern", "Artic Tern", "leading number"),
        ("001 artic tern", "Artic Tern", "leading number"),
    ],
)
def test_a_name_is_found_by_the_first_step_that_finds_it(text: str, name: str, step: str) -> None:
    match = _index(*BIRDS).find(text)
    assert match is not None
    assert (match.values, match.step) == ([name], step)


@pytest.mark.parametrize("text", ["tern", "Arctic Tern", "Café", "", "...", "12", "elegans"])
def test_nothing_is_guessed(text: str) -> None:
    assert _index(*BIRDS, "-").find(text) is None


def test_a_name_that_is_found_exactly_is_not_compared_any_further() -> None:
    index = _index("sea-lion", "sea lion", "Sea Lion")
    assert _found(index, "sea lion") == ["sea lion"]
    assert _found(index, "SEA-LION") == ["sea-lion"]
    assert _found(index, "sea_lion") == ["sea-lion", "sea lion", "Sea Lion"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("B. robin", "robin"),
        ("(b) robin", "robin"),
        ("B) robin", "robin"),
        (" B: robin", "robin"),
        ("robin", "robin"),
        ("B.", "B."),
        ("a robin", "a robin"),
    ],
)
def test_the_letter_of_an_option_is_taken_from_an_answer(text: str, name: str) -> None:
    assert strip_option_letter(text) == name


def test_a_number_that_belongs_to_the_name_stays() -> None:
    assert _found(_index("3D printer", "d printer"), "3d-printer") == ["3D printer"]
    assert _found(_index("12"), "12") == ["12"]


@given(st.text(min_size=1))
def test_every_step_leaves_its_own_result_as_it_is(text: str) -> None:
    for step in NAME_STEPS:
        if step.name == "leading number":  # takes one number at a time
            continue
        text = step.fold(text)
        assert step.fold(text) == text, step.name


@given(st.lists(st.text(st.characters(categories=["L"]), min_size=1), unique=True))
def test_every_name_of_letters_is_found_exactly(names: list[str]) -> None:
    index = _index(*names)
    for name in names:
        match = index.find(name)
        assert match is not None
        assert (match.values, match.step) == ([name], "exact")


def test_most_folder_names_of_cub_are_found_in_its_published_taxonomy(shared_data: Path) -> None:
    leaves = json.loads((shared_data / "taxonomies/hierarchy_CUB200.json").read_text())
    table = shared_data / "annotations/CUB200_with_random_choice.jsonl"
    images = [json.loads(line)["image"] for line in table.read_text().splitlines()]
    folders = sorted({Path(image).parent.name for image in images})
    index = _index(*leaves)
    matches = [index.find(folder) for folder in folders]  # such as 141.Artic_Tern
    assert all(match is None or len(match.values) == 1 for match in matches)
    assert Counter(match.step if match else "none" for match in matches) == {
        "leading number": 183,
        "none": 17,  # 023.Brandt_Cormorant is written Brandt's cormorant, and the like
    }
