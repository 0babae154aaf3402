"""metrics.json is pinned: what is written for a recorded evaluation does not change by a byte.

The recorded file holds no number that depends on the order of a sum: all paths have one or two
levels, and confidences are 1/2 and 1.
"""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

from sekd.analysis.cell_key import CellKey, solver_key
from sekd.analysis.cells import CellRows
from sekd.analysis.cost import MeanCost
from sekd.analysis.results import Evaluation
from sekd.analysis.summary import summarize
from sekd.config import EvaluateSpec
from sekd.data.predictions import Prediction, to_table
from sekd.data.taxonomy import Node, Taxonomy

RECORDED = Path(__file__).parent / "recorded" / "metrics.json"
TREE = Taxonomy.from_paths(
    {"a": ["r", "x", "a"], "b": ["r", "x", "b"], "c": ["r", "y", "c"], "z": ["r", "z"]}
)
SPEC = EvaluateSpec(num_bootstrap=25, alpha=0.75, seed=3)
NUM_SAMPLES = 16
LEAVES = "abczabcabzcabcaz"


def predict(key: CellKey, skill: float, *, num_rotations: int = 1) -> list[Prediction]:
    """Answers of which about this share is right; one in eight of the others cannot be parsed."""
    rng = random.Random(str(key))
    rows = []
    for sample in range(NUM_SAMPLES):
        for node in TREE.path(TREE.leaf(LEAVES[sample])):
            options = [node, *TREE.peers(node)]
            for rotation in range(num_rotations):
                answer = answer_for(node, options, skill, rng)
                rows.append(
                    Prediction(
                        **key._asdict(),
                        sample_id=f"{sample:02d}",
                        level=node.depth,
                        rank=f"level {node.depth}",
                        options=tuple(option.id for option in options),
                        truth=node.id,
                        prediction=None if answer is None else answer.id,
                        option_logprobs=logprobs_for(key, options, answer, rng),
                        rotation=rotation,
                    )
                )
    return rows


def answer_for(node: Node, options: list[Node], skill: float, rng: random.Random) -> Node | None:
    if rng.random() < skill:
        return node
    return None if rng.random() < 1 / 8 else rng.choice(options)


def logprobs_for(
    key: CellKey, options: list[Node], answer: Node | None, rng: random.Random
) -> list[float] | None:
    """All weight on the answer, or half of it on another option; none for joint replies."""
    if key.paradigm == "joint" or answer is None:
        return None
    second = rng.choice([None, *(option for option in options if option != answer)])
    return [0.0 if option in (answer, second) else -math.inf for option in options]


def recorded_cells() -> list[CellRows]:
    keys = {
        CellKey("d", "base", "joint"): 0.25,
        CellKey("d", "base", "conditioned"): 0.9,
        CellKey("d", "base", "conditioned", "circular"): 0.9,
        CellKey("d", "student", "joint"): 0.75,
        CellKey("d", "student", "joint", "blind"): 0.25,
        CellKey("d", "student", "conditioned"): 0.8,
        solver_key("d"): 0.5,
    }
    cells = []
    for number, (key, skill) in enumerate(keys.items()):
        rows = to_table(predict(key, skill, num_rotations=3 if key.control == "circular" else 1))
        cost = None
        if key.paradigm != "options":
            cost = MeanCost(1.0, 64.0 + number, 16.0 * number, 1.0, 0.25 * (number + 1))
        cells.append(CellRows(key, TREE, rows, num_quarantined=number, cost=cost))
    return cells


def test_the_written_file_does_not_change_by_a_byte() -> None:
    evaluation = summarize(recorded_cells(), SPEC, TREE)
    assert json.dumps(evaluation.to_json(), indent=1) + "\n" == RECORDED.read_text("utf-8")


def test_a_stored_evaluation_reads_back_unchanged(tmp_path: Path) -> None:
    text = RECORDED.read_text("utf-8")
    (tmp_path / "metrics.json").write_text(text)
    evaluation = Evaluation.read(tmp_path)
    assert json.dumps(evaluation.to_json(), indent=1) + "\n" == text
    computed = summarize(recorded_cells(), SPEC, TREE)
    assert evaluation.cells == computed.cells
    assert evaluation.comparisons == computed.comparisons


def test_results_of_an_earlier_version_have_no_shares_of_questions(tmp_path: Path) -> None:
    content = json.loads(RECORDED.read_text("utf-8"))
    for row in content["rows"]:
        assert set(row.pop("questions")) == {"num_questions", "single_option", "few_siblings"}
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    evaluation = Evaluation.read(tmp_path)
    assert all(cell.questions is None for cell in evaluation.cells.values())
    assert evaluation.to_json() == content


def test_costs_of_an_earlier_version_were_in_joint_passes(tmp_path: Path) -> None:
    content = json.loads(RECORDED.read_text("utf-8"))
    costs = [row["cost"] for row in content["rows"] if row["cost"] is not None]
    for cost in costs:
        relative = cost.pop("relative")
        assert relative.pop("unit") == "joint"
        cost["relative_to_joint"] = relative
    assert costs
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    assert Evaluation.read(tmp_path).to_json() == json.loads(RECORDED.read_text("utf-8"))


def test_the_paths_of_a_cell_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from sekd.analysis import cells

    computed = []
    paths_of = cells.paths_of
    monkeypatch.setattr(cells, "paths_of", lambda *args: computed.append(1) or paths_of(*args))
    recorded = recorded_cells()
    summarize(recorded, SPEC, TREE)
    assert len(computed) == len(recorded)
