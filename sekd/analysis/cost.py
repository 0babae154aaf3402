"""Costs of cells: means per sample, and in joint passes of the same model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sekd.data.predictions import NO_CONTROL

COST_KEYS = ("calls", "prefill_tokens", "cached_tokens", "decode_tokens", "seconds")
"""What a shard's record holds of the cost."""


def mean_cost(figures: Mapping[str, Sequence[float]], num_samples: int) -> dict[str, Any]:
    """Means per sample, as in a row of ``metrics.json``.

    Args:
        figures: each of :data:`COST_KEYS` of every shard.
    """
    return {name: sum(values) / max(num_samples, 1) for name, values in figures.items()}


def relate_to_joint(rows: Sequence[Mapping[str, Any]]) -> None:
    """Fill in ``cost.relative_to_joint``: how many joint passes of that model a cell costs.

    By tokens that are computed (``prefill_tokens`` and ``decode_tokens``) and by seconds; ``None``
    where the joint paradigm was not asked of the same model and dataset, without a control.
    """
    joint = {
        (row["dataset"], row["model"]): row["cost"]
        for row in rows
        if row["cost"] and row["paradigm"] == "joint" and row["control"] == NO_CONTROL
    }
    for row in rows:
        cost, base = row["cost"], joint.get((row["dataset"], row["model"]))
        if cost is None:  # no model was asked
            continue
        cost["relative_to_joint"] = base and {
            "tokens": _ratio(_num_computed(cost), _num_computed(base)),
            "seconds": _ratio(cost["seconds"], base["seconds"]),
        }


def _num_computed(cost: Mapping[str, float]) -> float:
    return cost["prefill_tokens"] + cost["decode_tokens"]


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
