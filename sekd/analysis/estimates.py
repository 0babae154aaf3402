"""Rates with their intervals, as they are computed, stored in JSON and shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

from sekd.analysis.metrics import LEVEL_METRICS, PATH_METRICS


@dataclass(frozen=True)
class Estimate:
    """A rate in percent and the ends of its 95 % interval over samples.

    Attributes:
        num_samples: the number of samples that count towards the rate; ``None`` where it is not
            known, as of the paper's own figures.
    """

    value: float
    low: float
    high: float
    num_samples: int | None = None

    def to_json(self) -> dict[str, float | None]:
        """Return ``{"value": ..., "low": ..., "high": ..., "num_samples": ...}``."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Estimate:
        """Read what :meth:`to_json` returns, or returned before it gave ``num_samples``."""
        return cls(content["value"], content["low"], content["high"], content.get("num_samples"))


@dataclass(frozen=True)
class Difference(Estimate):
    """``value`` is ``a - b`` in percentage points, with a paired interval; a and b in percent."""

    a: float = field(kw_only=True)
    b: float = field(kw_only=True)

    def to_json(self) -> dict[str, float | None]:
        """Return ``{"a": ..., "b": ..., "value": ..., "low": ..., "high": ..., ...}``."""
        return {"a": self.a, "b": self.b, **super().to_json()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Difference:
        """Read what :meth:`to_json` returns."""
        return cls(**content)


Levels: TypeAlias = Mapping[int, Estimate]
"""Level -> rate."""
Rate = TypeVar("Rate", bound=Estimate)


@dataclass(frozen=True)
class MetricValues(Generic[Rate]):
    """Every metric of the registry over the same samples.

    Attributes:
        num_samples: the number of samples.
        paths: metric -> rate; ``None`` where no sample counts.
        levels: metric -> level -> rate; ``None`` where no sample counts.
    """

    num_samples: int
    paths: Mapping[str, Rate | None]
    levels: Mapping[str, Mapping[int, Rate | None]]

    def rate(self, metric: str) -> Rate | None:
        """Return a metric of whole paths."""
        return self.paths[metric]

    def by_level(self, metric: str) -> dict[int, Rate]:
        """Return a metric by level; levels at which no sample counts are left out."""
        return {level: rate for level, rate in self.levels[metric].items() if rate is not None}

    def to_json(self) -> dict[str, Any]:
        """Return ``{"num_samples": ..., "hca": ..., ..., "level_accuracy": {"1": ...}, ...}``."""
        return {
            "num_samples": self.num_samples,
            **{metric: _rate_to_json(rate) for metric, rate in self.paths.items()},
            **{
                metric: {str(level): _rate_to_json(rate) for level, rate in rates.items()}
                for metric, rates in self.levels.items()
            },
        }

    @classmethod
    def from_json(
        cls, content: Mapping[str, Any], read_rate: Callable[[Mapping[str, Any]], Rate]
    ) -> MetricValues[Rate]:
        """Read what :meth:`to_json` returns; other keys are ignored.

        Args:
            read_rate: :meth:`Estimate.from_json` or :meth:`Difference.from_json`.

        Raises:
            KeyError: if a metric is missing.
        """

        def read(rate: Mapping[str, Any] | None) -> Rate | None:
            return None if rate is None else read_rate(rate)

        return cls(
            num_samples=content["num_samples"],
            paths={metric.key: read(content[metric.key]) for metric in PATH_METRICS},
            levels={
                metric.key: {int(level): read(rate) for level, rate in content[metric.key].items()}
                for metric in LEVEL_METRICS
            },
        )


def _rate_to_json(rate: Estimate | None) -> dict[str, float | None] | None:
    return None if rate is None else rate.to_json()
