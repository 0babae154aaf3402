"""Costs of cells: means per sample, also as multiples of a cost of the base."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sekd.analysis.cell_key import PARADIGMS, CellKey
from sekd.analysis.roles import AT_ONCE, find_key
from sekd.config import BASE

COST_KEYS = ("calls", "prefill_tokens", "cached_tokens", "decode_tokens", "seconds")
"""What a shard's record says of the cost."""


@dataclass(frozen=True)
class RelativeCost:
    """A cost as a multiple of what the base costs, one unit for all models.

    Attributes:
        tokens: by tokens that are computed, prefill and decode; ``None`` where the base has none.
        seconds: by seconds; ``None`` likewise.
        unit: the paradigm in which the base is asked: joint, or the first one that was evaluated.
    """

    tokens: float | None
    seconds: float | None
    unit: str = "joint"


@dataclass(frozen=True)
class MeanCost:
    """Means per sample, over all rotations.

    Attributes:
        calls: requests to the model.
        prefill_tokens: tokens of prompts that were computed.
        cached_tokens: the other tokens of the prompts.
        decode_tokens: tokens that were written.
        seconds: seconds of one worker that asks about many samples at once.
        latency: median of the seconds for one sample alone, from the image file to the last answer;
            ``None`` in results of earlier versions and cells of a few samples.
        relative: the same as a multiple of a cost of the base, on the same dataset without a
            control; ``None`` where the base was not evaluated.
    """

    calls: float
    prefill_tokens: float
    cached_tokens: float
    decode_tokens: float
    seconds: float
    relative: RelativeCost | None = None
    latency: float | None = None

    @property
    def computed_tokens(self) -> float:
        """Tokens that were read or written anew."""
        return self.prefill_tokens + self.decode_tokens

    def to_json(self) -> dict[str, Any]:
        """Return ``cost`` of a row of ``metrics.json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> MeanCost:
        """Read what :meth:`to_json` returns."""
        # Earlier versions knew joint passes of the base alone.
        relative = content["relative"] if "relative" in content else content["relative_to_joint"]
        return cls(
            **{key: content[key] for key in COST_KEYS},
            relative=None if relative is None else RelativeCost(**relative),
            latency=content.get("latency"),
        )


def mean_cost(stats: Mapping[str, Sequence[float]], num_samples: int) -> MeanCost:
    """Average the costs of shards over their samples.

    Args:
        stats: each of :data:`COST_KEYS` -> one value per shard, and ``latency`` -> one for
            each shard in which it was measured.
    """

    def mean(key: str) -> float:
        return sum(stats[key]) / max(num_samples, 1)

    return MeanCost(
        calls=mean("calls"),
        prefill_tokens=mean("prefill_tokens"),
        cached_tokens=mean("cached_tokens"),
        decode_tokens=mean("decode_tokens"),
        seconds=mean("seconds"),
        latency=next(iter(stats.get("latency", ())), None),
    )


def relate_to_base(costs: Mapping[CellKey, MeanCost]) -> dict[CellKey, MeanCost]:
    """Fill in :attr:`MeanCost.relative` of each cell."""
    related = {}
    for key, cost in costs.items():
        unit = find_key(costs, key.dataset, BASE, (*AT_ONCE, *PARADIGMS))
        relative = None
        if unit is not None:
            base = costs[unit]
            relative = RelativeCost(
                tokens=_ratio(cost.computed_tokens, base.computed_tokens),
                seconds=_ratio(cost.seconds, base.seconds),
                unit=unit.paradigm,
            )
        related[key] = replace(cost, relative=relative)
    return related


def unit_of_costs(costs: Iterable[MeanCost | None]) -> str:
    """Say of what costs are multiples; empty where none is."""
    units = dict.fromkeys(cost.relative.unit for cost in costs if cost and cost.relative)
    return f"the base's {' or '.join(units)} answer" if units else ""


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
