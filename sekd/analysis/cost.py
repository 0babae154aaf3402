"""Costs of cells: means per sample, also in joint passes of the base, one unit for all models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sekd.analysis.cell_key import CellKey
from sekd.config import BASE

COST_KEYS = ("calls", "prefill_tokens", "cached_tokens", "decode_tokens", "seconds")
"""What a shard's record says of the cost."""


@dataclass(frozen=True)
class RelativeCost:
    """A cost in joint passes of the base; ``None`` where such a pass costs nothing."""

    tokens: float | None
    """By tokens that are computed: prefill and decode."""
    seconds: float | None


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
        relative_to_joint: in joint passes of the base on the same dataset without a control;
            ``None`` where there is none.
    """

    calls: float
    prefill_tokens: float
    cached_tokens: float
    decode_tokens: float
    seconds: float
    relative_to_joint: RelativeCost | None = None
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
        relative = content["relative_to_joint"]
        return cls(
            **{key: content[key] for key in COST_KEYS},
            relative_to_joint=None if relative is None else RelativeCost(**relative),
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


def relate_to_joint(costs: Mapping[CellKey, MeanCost]) -> dict[CellKey, MeanCost]:
    """Fill in :attr:`MeanCost.relative_to_joint` of each cell."""
    related = {}
    for key, cost in costs.items():
        joint = costs.get(CellKey(key.dataset, BASE, "joint"))
        relative = None
        if joint is not None:
            relative = RelativeCost(
                tokens=_ratio(cost.computed_tokens, joint.computed_tokens),
                seconds=_ratio(cost.seconds, joint.seconds),
            )
        related[key] = replace(cost, relative_to_joint=relative)
    return related


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
