"""Estimate the cost of descents from the widths of the taxonomy and a rehearsal."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sekd.config import RunConfig
from sekd.data.branching import Branches, count_questions
from sekd.data.samples import Dataset
from sekd.data.shards import Shard
from sekd.data.taxonomy import Taxonomy
from sekd.engines import Engine
from sekd.errors import ConfigError
from sekd.stages.elicit.descents import DescentsWorker


@dataclass(frozen=True)
class DescentCost:
    """The cost of descents with all samples, for a teacher that answers right.

    Attributes:
        num_questions: exact for the leaves that are assumed; under a beam it is an upper bound.
        num_prompt_tokens: prompt tokens over all questions, images included.
        num_tokens: those that the engine computes.
        is_over_leaves: labels are not known, and every leaf is assumed equally often.
        widest: name of the node with the most children.
        num_children: the number of its children.
        num_lookalikes: nodes that read like a sibling, which no question can tell apart.
    """

    num_questions: int
    num_prompt_tokens: int
    num_tokens: int
    is_over_leaves: bool
    widest: str
    num_children: int
    num_lookalikes: int


def with_assumed_labels(dataset: Dataset) -> Dataset:
    """Return the dataset with every leaf equally often as a label, where a label is missing.

    So the questions of an elicitation that follows a descent can be rehearsed.
    """
    samples, taxonomy = dataset.samples, dataset.taxonomy
    if samples.leaves.null_count:
        leaves = [node.id for node in taxonomy.nodes if node.id in taxonomy.leaf_ids]
        numbers = np.arange(len(samples)) * len(leaves) // len(samples)
        indices = pa.array(numbers.astype(np.int32))
        assumed = pa.DictionaryArray.from_arrays(indices, pa.array(leaves))
        samples = replace(samples, leaves=pa.chunked_array([assumed]))
    return replace(dataset, samples=samples, has_model_labels=True)


def questions_by_node(taxonomy: Taxonomy, max_options: int) -> NDArray[np.int64]:
    """int64 [nodes]: the number of questions that lead from the root to the end of a path there.

    Nodes are in the order of the taxonomy. Where a path may also go on from its end, the question
    whether it ends there counts.
    """
    below: dict[str, int] = {}  # the questions about the children of a node
    above: dict[str, int] = {}  # the questions that lead to a node
    for node in taxonomy.nodes:
        branches = Branches.below(taxonomy, node)
        num_options = len(branches.options) if branches else 0
        below[node.id] = count_questions(num_options, max_options)
        parent = node.parent
        above[node.id] = 0 if parent is None else above[parent] + below[parent]
    return np.array([above[node.id] + below[node.id] for node in taxonomy.nodes])


def estimate_descents(
    config: RunConfig, dataset: Dataset, engine: Engine, num_probed: int
) -> DescentCost:
    """Count the questions for all samples, and rehearse some of them for the tokens.

    Args:
        dataset: with its own labels, or those of :func:`with_assumed_labels`.

    Raises:
        ConfigError: if none of the probed samples can be used.
    """
    samples, taxonomy, spec = dataset.samples, dataset.taxonomy, config.descent
    counts = questions_by_node(taxonomy, spec.max_options)[samples.leaf_numbers()]
    num_questions = int(counts.sum()) * spec.beam
    step = max(1, len(samples) // num_probed)
    probe = replace(dataset.without_quiz(), samples=samples[::step][:num_probed])
    quiet = config.elicit.model_copy(update={"max_quarantined": 1.0})
    worker = DescentsWorker(config.model_copy(update={"elicit": quiet}), probe, engine=engine)
    with tempfile.TemporaryDirectory() as folder:
        shard = Shard(0, tuple(probe.samples.ids.to_pylist()))
        result = worker.process(shard, Path(folder), lambda _: None)
    if not result.num_done:
        raise ConfigError(
            f"data.{dataset.name}: none of {len(probe.samples)} samples can be used; the first is "
            f"{result.quarantined[0].sample_id}: {result.quarantined[0].reason}"
        )
    stats = result.stats
    factor = num_questions / stats["num_questions"] if stats["num_questions"] else 0.0
    num_computed = stats["num_prompt_tokens"] - stats["num_cached_tokens"]
    all_branches = [Branches.below(taxonomy, node) for node in taxonomy.nodes]
    widest = max(taxonomy.nodes, key=lambda node: len(taxonomy.children(node)))
    return DescentCost(
        num_questions=num_questions,
        num_prompt_tokens=round(stats["num_prompt_tokens"] * factor),
        num_tokens=round(num_computed * factor),
        is_over_leaves=False,
        widest=widest.name or "the root",
        num_children=len(taxonomy.children(widest)),
        num_lookalikes=sum(
            len(branches.nodes) - len(branches.options) for branches in all_branches if branches
        ),
    )
