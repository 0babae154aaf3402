"""Prepare samples for an engine: read their images, make their questions, set unusable ones aside.

A sample that cannot be used does not end a shard: it becomes a ``Quarantined``, with its reason.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image

from sekd.data.images import image_sha256, read_image
from sekd.data.questions import Question
from sekd.data.samples import Dataset, Sample, questions_of
from sekd.data.shards import Quarantined
from sekd.engines import Conversation, Engine, Prompt
from sekd.engines.base import Result
from sekd.errors import SampleError, ShardError

_NUM_AHEAD = 16
"""Number of samples that are prepared while the engine works on earlier ones."""


@dataclass(frozen=True)
class PreparedSample:
    """A sample whose image has been read and whose questions have been made.

    Attributes:
        image: ``None`` where prompts show no image.
        image_key: SHA-256 of the image file; empty where prompts show no image.
        questions: one per level below the root; ``None`` where each question follows from the
            answer before it (``distractors: walk``).
    """

    sample: Sample
    image: Image.Image | None
    image_key: str
    questions: Sequence[Question] | None

    def prompt(self, token_ids: tuple[int, ...]) -> Prompt:
        """Join token ids with the image of this sample."""
        return Prompt(token_ids, self.image, self.image_key)


def prepare_samples(
    dataset: Dataset, samples: Iterable[Sample]
) -> Iterator[PreparedSample | Quarantined]:
    """Prepare samples in their order, on threads that work ahead of the reader."""
    with ThreadPoolExecutor() as threads:
        pending: deque[Future[PreparedSample | Quarantined]] = deque()
        for sample in samples:
            pending.append(threads.submit(_prepare_sample, dataset, sample))
            if len(pending) > _NUM_AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _prepare_sample(dataset: Dataset, sample: Sample) -> PreparedSample | Quarantined:
    try:
        image, image_key = read_image(sample.image), image_sha256(sample.image)
        if image_key is None:
            raise SampleError(f"{sample.image}: cannot be read")
        return PreparedSample(sample, image, image_key, questions_of(dataset, sample))
    except SampleError as error:
        return Quarantined(sample.id, str(error), error.level)


def check_num_quarantined(
    quarantined: Sequence[Quarantined], num_samples: int, limit: float
) -> None:
    """Fail a shard in which too many samples cannot be used.

    Args:
        limit: largest fraction of the samples (``elicit.max_quarantined``).

    Raises:
        ShardError: naming the first of them.
    """
    if len(quarantined) > limit * num_samples:
        first = quarantined[0]
        raise ShardError(
            f"{len(quarantined)} of {num_samples} samples cannot be used, more than "
            f"elicit.max_quarantined {limit:g} allows; the first is {first.sample_id}: "
            f"{first.reason}"
        )


def run_conversations(
    engine: Engine,
    samples: Iterable[PreparedSample | Quarantined],
    converse: Callable[[PreparedSample], Conversation[Result]],
) -> Iterator[Result | Quarantined]:
    """Drive one conversation per sample; yield one outcome per sample, in the order they end.

    The outcome is a ``Quarantined`` where the sample could not be prepared or its conversation
    raised a ``SampleError``.
    """
    return engine.run(_quarantine_errors(sample, converse) for sample in samples)


def _quarantine_errors(
    prepared: PreparedSample | Quarantined,
    converse: Callable[[PreparedSample], Conversation[Result]],
) -> Conversation[Result | Quarantined]:
    """Hold the conversation about a sample; it ends at once where the sample is quarantined."""
    if isinstance(prepared, Quarantined):
        return prepared
    try:
        return (yield from converse(prepared))
    except SampleError as error:
        return Quarantined(prepared.sample.id, str(error), error.level)
