"""Golden numbers: from rows to metrics, against plain Python and against another package.

Every batch draws a ragged taxonomy and predictions for it, writes them as rows in any order, and
compares what comes out of arrays with what comes out of a loop over the samples.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import pairwise

import hiereval
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sekd.analysis.outcomes import Outcomes
from sekd.analysis.paths import paths_of
from sekd.analysis.rates import compute_differences, compute_metrics
from sekd.data.taxonomy import Node, Taxonomy

NUM_BATCHES, BATCH = 50, 200  # ten thousand cases
ALPHA = 0.8


@dataclass
class Batch:
    """Cases over one taxonomy: the right path and the answers, None where none could be read."""

    taxonomy: Taxonomy
    cases: list[tuple[list[Node], list[Node | None]]] = field(default_factory=list)

    @classmethod
    def draw(
        cls, rng: random.Random, *, unparsed: float = 0.1, num_levels: int | None = None
    ) -> Batch:
        """Draw one; names repeat across parents; depths differ where ``num_levels`` is None."""
        paths: dict[str, list[str]] = {}
        while len(paths) < 12:
            depth = num_levels or rng.randint(1, 6)
            path = ["root", *(f"{level}{rng.choice('abc')}" for level in range(1, depth)), "leaf"]
            path[-1] += str(len(paths))
            paths[path[-1]] = path
        batch = cls(Taxonomy.from_paths(paths))
        skill = rng.random()
        for _ in range(BATCH):
            right = batch.taxonomy.path(batch.taxonomy.leaf(rng.choice(sorted(paths))))
            answers = []
            for node in right:
                guess = node if rng.random() < skill else rng.choice(batch.taxonomy.peers(node))
                answers.append(None if rng.random() < unparsed else guess)
            batch.cases.append((right, answers))
        return batch

    def rows(self, rng: random.Random) -> pa.Table:
        rows = [
            (str(i), node.depth, node.id, answer and answer.id)
            for i, (right, answers) in enumerate(self.cases)
            for node, answer in zip(right, answers, strict=True)
        ]
        rng.shuffle(rows)
        columns = zip(*rows, strict=True)
        names = ["sample_id", "level", "truth", "prediction"]
        return pa.table(dict(zip(names, map(list, columns), strict=True)))

    def outcomes(self, rng: random.Random) -> Outcomes:
        return Outcomes.of(paths_of(self.rows(rng), self.taxonomy))


def by_hand(batch: Batch) -> dict[str, float]:
    """All metrics in percent, one sample after the other, from the definitions."""
    shares: dict[str, list[float]] = {}

    def add(name: str, share: float) -> None:
        shares.setdefault(name, []).append(share)

    for right, answers in batch.cases:
        length = len(right)
        flags = [
            answer is not None and answer.id == node.id
            for node, answer in zip(right, answers, strict=True)
        ]
        prefix = 0
        while prefix < length and flags[prefix]:
            prefix += 1
        runs = [0]
        for flag in flags:
            runs.append(runs[-1] + 1 if flag else 0)
        add("hca", prefix == length)
        add("leaf_accuracy", flags[-1])
        add("por", sum(flags) / length)
        pairs = sum(flags[j] and flags[j + 1] for j in range(length - 1))
        add("tor", pairs / (length - 1) if length > 1 else 0)
        add("spor_prefix", prefix / length)
        add("spor_run", max(runs) / length)
        weights = [(1 - ALPHA) / (length - 1)] * (length - 1) + [ALPHA] if length > 1 else [1]
        add("dwpa", sum(weights[:prefix]))
        add("parse_failure_rate", None in answers)
        if None not in answers:
            edges = pairwise(answers)
            add("tice", any(child.parent != parent.id for parent, child in edges))
        for j, flag in enumerate(flags):
            add(f"level_accuracy.{j + 1}", flag)
            if j:
                given = "correct" if flags[j - 1] else "wrong"
                add(f"accuracy_given_parent_{given}.{j + 1}", flag)
    return {name: 100 * sum(each) / len(each) for name, each in shares.items()}


def flat(report: dict[str, object], key: str = "value") -> dict[str, float]:
    found = {}
    for name, value in report.items():
        if isinstance(value, dict) and key in value:
            found[name] = value[key]
        elif isinstance(value, dict):
            found |= {f"{name}.{level}": each[key] for level, each in value.items() if each}
    return found


@settings(max_examples=NUM_BATCHES, deadline=None)
@given(st.integers(0, 2**32))
def test_ten_thousand_ragged_cases_match_plain_python(seed: int) -> None:
    rng = random.Random(seed)
    batch = Batch.draw(rng)
    found = compute_metrics(batch.outcomes(rng), alpha=ALPHA).to_json()
    assert flat(found) == pytest.approx(by_hand(batch), abs=1e-9)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32))
def test_paired_differences_match_plain_python(seed: int) -> None:
    rng = random.Random(seed)
    here = Batch.draw(rng)
    there = Batch(here.taxonomy)
    for right, _ in here.cases:
        there.cases.append((right, [rng.choice(here.taxonomy.peers(node)) for node in right]))
    a, b = (
        Outcomes.of(paths_of(each.rows(random.Random(1)), each.taxonomy)) for each in (here, there)
    )
    found = compute_differences(a, b, alpha=ALPHA, num_bootstrap=1).to_json()
    one, other = by_hand(here), by_hand(there)
    both = one.keys() & other.keys()
    assert flat(found, "a") == pytest.approx({name: one[name] for name in both})
    assert flat(found, "b") == pytest.approx({name: other[name] for name in both})
    expected = {name: one[name] - other[name] for name in both}
    assert flat(found) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([None, 4]))
def test_metrics_match_those_that_hiereval_defines_too(seed: int, num_levels: int | None) -> None:
    """The PyPI package hiereval, with node ids as its labels and UNK for what was not parsed."""
    rng = random.Random(seed)
    batch = Batch.draw(rng, num_levels=num_levels)
    found = flat(compute_metrics(batch.outcomes(rng)).to_json())
    right = [[node.id for node in path] for path, _ in batch.cases]
    answers = [[a.id if a else hiereval.UNK for a in path] for _, path in batch.cases]

    assert 100 * hiereval.full_path_accuracy(right, answers) == pytest.approx(found["hca"])
    for each in hiereval.per_level_scores(right, answers):
        assert 100 * each.accuracy == pytest.approx(found[f"level_accuracy.{each.level}"])
    shares = [
        hiereval.lca_depth(answer, path) / len(path)
        for answer, path in zip(answers, right, strict=True)
    ]
    assert 100 * sum(shares) / len(shares) == pytest.approx(found["spor_prefix"])

    # Its recall counts over the nodes of all samples, and not below the first gap: where no answer
    # is missing and every path is as long, that is POR, the mean of each sample's own share. Its
    # TICE is over all samples, and looks no further than the first gap: where no answer is missing,
    # that is ours, which is over the samples with a whole path.
    whole = Batch.draw(rng, unparsed=0, num_levels=num_levels)
    found = flat(compute_metrics(whole.outcomes(rng)).to_json())
    right = [[node.id for node in path] for path, _ in whole.cases]
    answers = [[answer.id for answer in path if answer] for _, path in whole.cases]
    edges = hiereval.Taxonomy.from_paths(
        [[n.id for n in whole.taxonomy.path(node)] for node in whole.taxonomy.nodes]
    )
    assert 100 * hiereval.inconsistency_rate(answers, edges) == pytest.approx(found["tice"])
    recall = 100 * hiereval.hierarchical_prf(right, answers).recall
    if num_levels:
        assert recall == pytest.approx(found["por"])
