"""The views of a teacher's shards that a person is shown: one sample, or a whole run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class OptionView:
    """One option; probabilities are over the whole vocabulary.

    Attributes:
        probability: the mean over all orders in which the options were shown.
        as_shown: the probability in the order of the transcript.
    """

    letter: str
    name: str
    probability: float
    as_shown: float
    is_answer: bool
    is_truth: bool


@dataclass(frozen=True)
class TopToken:
    """One of the most probable tokens of the whole vocabulary."""

    text: str
    probability: float


@dataclass(frozen=True)
class TurnView:
    """One level: what the teacher was asked, what it answered, and what was stored of it.

    Attributes:
        heard: text of the transcript before the answer.
        said: text of the transcript from the answer on.
        top: most probable tokens; empty if the states are not stored yet.
        tail_mass: probability of all tokens beyond those that are stored.
        norms: layer -> length of the stored state.
        parity: largest difference of an option's log-probability between engine and state pass.
    """

    level: int
    rank: str
    heard: str
    said: str
    options: tuple[OptionView, ...]
    option_mass: float
    confidence: float
    num_prompt_tokens: int
    num_cached_tokens: int
    top: tuple[TopToken, ...]
    tail_mass: float | None
    norms: Mapping[str, float]
    parity: float | None

    @property
    def has_orders(self) -> bool:
        """Tell whether the options were shown in several orders."""
        return any(option.probability != option.as_shown for option in self.options)


@dataclass(frozen=True)
class SampleView:
    """One sample's dialogue."""

    sample_id: str
    image: str
    turns: tuple[TurnView, ...]

    @property
    def confidence(self) -> float:
        """The confidence of the least confident answer."""
        return min(turn.confidence for turn in self.turns)


@dataclass(frozen=True)
class LevelSummary:
    """All answers at one level of a run.

    Attributes:
        accuracy: share of right answers among those with a label; ``None`` if none has one.
        confidence, option_mass, num_prompt_tokens, num_cached_tokens: means.
    """

    level: int
    num_answers: int
    accuracy: float | None
    confidence: float
    option_mass: float
    num_prompt_tokens: float
    num_cached_tokens: float


@dataclass(frozen=True)
class RunView:
    """A teacher's run as a whole.

    Attributes:
        least_confident: ids of samples, the least confident first.
    """

    directory: str
    num_samples: int
    levels: tuple[LevelSummary, ...]
    least_confident: tuple[str, ...]
