"""The blind solver: exact against enumeration, and 98.3 on the published CUB questions."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sekd.analysis.estimates import Estimate
from sekd.analysis.outcomes import Outcomes
from sekd.analysis.paths import paths_of
from sekd.analysis.rates import compute_metrics
from sekd.analysis.solver import Solution, solve
from sekd.data.predictions import PREDICTION_SCHEMA, read_predictions, write_predictions
from sekd.data.questions import Question, given_questions, labelled_questions
from sekd.data.taxonomy import Node, Taxonomy

TREE = Taxonomy.from_paths(
    {f"{a}{b}{c}": ["r", a, a + b, a + b + c] for a in "pq" for b in "ijk" for c in "xyz"}
)


def paths_with_fewest_breaks(options: Sequence[Sequence[Node]]) -> list[tuple[Node, ...]]:
    def num_broken(path: Sequence[Node]) -> int:
        return sum(below.parent != above.id for above, below in itertools.pairwise(path))

    paths = list(itertools.product(*options))
    fewest = min(map(num_broken, paths))
    return [path for path in paths if num_broken(path) == fewest]


def expected_hca(samples: Iterable[Sequence[Question]]) -> float:
    """The solver's HCA in percent, exactly: the mean over its random choices."""
    shares = []
    for questions in samples:
        truth = tuple(question.truth for question in questions)
        paths = paths_with_fewest_breaks([question.options for question in questions])
        shares.append(1 / len(paths) if truth in paths else 0)
    return 100 * sum(shares) / len(shares)


def hca_of(rows: pa.Table, taxonomy: Taxonomy) -> Estimate:
    hca = compute_metrics(Outcomes.of(paths_of(rows, taxonomy))).rate("hca")
    assert hca is not None
    return hca


def draw_options(seed: int) -> list[list[Node]]:
    rng = random.Random(seed)
    levels = [[node for node in TREE.nodes if node.depth == depth] for depth in (1, 2, 3)]
    return [rng.sample(level, rng.randint(1, min(4, len(level)))) for level in levels]


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32))
def test_paths_are_counted_as_if_they_were_listed(seed: int) -> None:
    options = draw_options(seed)
    solution = Solution(options)
    paths = paths_with_fewest_breaks(options)
    assert solution.num_paths == len(paths)
    assert tuple(solution.pick(random.Random(seed))) in paths


def test_paths_are_chosen_uniformly() -> None:
    options = [[TREE["r/p"], TREE["r/q"]], [TREE["r/p/pi"], TREE["r/q/qi"], TREE["r/q/qj"]]]
    rng = random.Random(0)
    picked = Counter(tuple(node.name for node in Solution(options).pick(rng)) for _ in range(3000))
    assert set(picked) == {("p", "pi"), ("q", "qi"), ("q", "qj")}
    assert all(900 < count < 1100 for count in picked.values())


def test_paths_that_meet_in_one_option_are_chosen_as_often_as_others() -> None:
    tree = Taxonomy.from_paths({"pix": ["r", "p", "pi", "pix"], "six": ["r", "s", "si", "six"],
                                "qix": ["r", "q", "qi", "qix"]})  # fmt: skip
    options = [["r/p", "r/q"], ["r/p/pi", "r/s/si"], ["r/s/si/six"]]
    solution = Solution([[tree[node_id] for node_id in level] for level in options])
    rng = random.Random(0)
    picked = Counter(tuple(node.name for node in solution.pick(rng)) for _ in range(3000))
    assert set(picked) == {("p", "pi", "six"), ("p", "si", "six"), ("q", "si", "six")}
    assert all(900 < count < 1100 for count in picked.values())


def test_without_a_valid_path_the_solver_takes_the_least_broken_ones() -> None:
    options = [[TREE["r/p"]], [TREE["r/q/qi"], TREE["r/p/pj"]], [TREE["r/q/qi/qix"]]]
    solution = Solution(options)
    assert (solution.num_broken, solution.num_paths) == (1, 2)
    with pytest.raises(ValueError, match="every level one option"):
        Solution([[TREE["r/p"]], []])


def asked(leaf: str, sample_id: str) -> list[Question]:
    node = TREE.leaf(leaf)
    return labelled_questions(
        TREE, node, sample_id=sample_id, distractors="random", num_options=3, seed=0
    )


def test_the_solvers_hca_matches_its_expectation(tmp_path: Path) -> None:
    rng = random.Random(0)
    leaves = sorted(TREE.labels)
    samples = [(str(i), asked(rng.choice(leaves), str(i))) for i in range(3000)]
    rows = list(solve(samples, dataset="d", seed=0))
    write_predictions(rows, tmp_path / "p.parquet")
    table = read_predictions([tmp_path / "p.parquet"])
    assert set(table["model"].to_pylist()) == {"taxonomy"}
    assert set(table["paradigm"].to_pylist()) == {"options"}
    assert not paths_of(table, TREE).off_tree.any()
    expected = expected_hca(questions for _, questions in samples)
    assert 30 < expected < 90
    hca = hca_of(table, TREE)
    assert hca.low < expected < hca.high
    assert list(solve(samples[5:6], dataset="d", seed=0)) == rows[15:18]
    assert list(solve(samples, dataset="d", seed=1)) != rows


def test_samples_without_a_truth_are_refused() -> None:
    question = Question(1, (TREE["r/p"], TREE["r/q"]), None)
    with pytest.raises(ValueError, match="sample '1' has no truth at level 1"):
        list(solve([("1", [question])], dataset="d", seed=0))


def test_the_solver_scores_98_3_on_the_published_questions(shared_data: Path) -> None:
    taxonomy = Taxonomy.load(shared_data / "taxonomies/hierarchy_CUB200.json")
    samples = []
    for line in (shared_data / "annotations/CUB200_with_random_choice.jsonl").open("rb"):
        row = json.loads(line)
        choices = [row[f"choices_level{level}"] for level in (1, 2, 3, 4)]
        samples.append(
            (row["image"], given_questions(taxonomy, taxonomy.leaf(row["label"]), choices))
        )
    assert len(samples) == 5794
    assert round(expected_hca(questions for _, questions in samples), 1) == 98.3
    rows = [vars(row) for row in solve(samples, dataset="cub", seed=0)]
    table = pa.Table.from_pylist(rows, PREDICTION_SCHEMA)
    hca = hca_of(table, taxonomy)
    assert hca.low < 98.25 < hca.high
