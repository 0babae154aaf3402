"""Prepare samples for an engine: read their images, make their questions, set unusable ones aside.

A sample that cannot be used does not end a shard: it becomes a ``Quarantined``, with its reason.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Condition
from typing import Self

from PIL import Image

from sekd.data.images import Reading, read_and_hash
from sekd.data.questions import Question
from sekd.data.samples import Dataset, Sample, questions_of
from sekd.data.shards import Quarantined
from sekd.engines import Conversation, Engine, Prompt
from sekd.engines.base import Result
from sekd.errors import SampleError, ShardError

logger = logging.getLogger(__name__)

_NUM_NAMED = 20
"""Number of samples that the error of a shard names."""
_NUM_AHEAD = 16
"""Number of samples that are prepared while the engine works on earlier ones."""
_BYTES_AHEAD = 256_000_000
"""Bytes of the images that are decoded ahead: four photographs of 16 megapixels."""


@dataclass(frozen=True)
class PreparedSample:
    """A sample whose image has been read and whose questions have been made.

    Attributes:
        image: ``None`` where prompts show no image.
        image_key: SHA-256 of the image file; empty where prompts show no image.
        questions: one per level below the root; ``None`` where they follow from the answers of a
            descent (``options: children``).
    """

    sample: Sample
    image: Image.Image | None
    image_key: str
    questions: Sequence[Question] | None

    def prompt(self, token_ids: tuple[int, ...]) -> Prompt:
        """Join token ids with the image of this sample."""
        return Prompt(token_ids, self.image, self.image_key)


def prepare_samples(
    dataset: Dataset,
    samples: Iterable[Sample],
    used_pixels: Callable[[], int | None] | None = None,
) -> Iterator[PreparedSample | Quarantined]:
    """Prepare samples in their order, on threads that work ahead of the reader.

    Args:
        used_pixels: returns the largest number of pixels that the model's processor makes of an
            image; see :class:`~sekd.data.images.Reading`.
    """
    with ThreadPoolExecutor() as threads, _DecodedAhead(_BYTES_AHEAD) as ahead:
        pending: deque[Future[PreparedSample | Quarantined]] = deque()
        try:
            for place, sample in enumerate(samples):
                slot = ahead.slot(place)
                pending.append(threads.submit(_prepare_sample, dataset, sample, slot, used_pixels))
                if len(pending) > _NUM_AHEAD:
                    yield pending.popleft().result()
                    ahead.release()
            while pending:
                yield pending.popleft().result()
                ahead.release()
        finally:  # after an error, each of the rest may wait a minute for storage as well
            threads.shutdown(wait=False, cancel_futures=True)


class _DecodedAhead:
    """Bounds the bytes of the images that are decoded ahead of the reader.

    Images get their memory in the order of the samples, so the one that the reader waits for is
    never behind a later one. A single image may be larger than the limit.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._changed = Condition()
        self._next_place = 0
        self._held: deque[int] = deque()
        self._is_open = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Let all threads go on, because no reader is left that would make room."""
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    def slot(self, place: int) -> Callable[[int], None]:
        """Return a function that waits until this many bytes may be used for that sample.

        Only its first call counts.
        """

        def reserve(num_bytes: int) -> None:
            with self._changed:
                self._changed.wait_for(lambda: self._has_room(place, num_bytes))
                if self._next_place == place:
                    self._next_place += 1
                    self._held.append(num_bytes)
                    self._changed.notify_all()

        return reserve

    def release(self) -> None:
        """Free the bytes of the first sample that has not been released."""
        with self._changed:
            if self._held:
                self._held.popleft()
            self._changed.notify_all()

    def _has_room(self, place: int, num_bytes: int) -> bool:
        if self._is_open or place < self._next_place:
            return True
        is_next = place == self._next_place
        return is_next and (not self._held or sum(self._held) + num_bytes <= self._limit)


def _prepare_sample(
    dataset: Dataset,
    sample: Sample,
    reserve: Callable[[int], None],
    used_pixels: Callable[[], int | None] | None,
) -> PreparedSample | Quarantined:
    reading = Reading(dataset.spec.pixel_limit, used_pixels, reserve)
    try:
        image, image_key = read_and_hash(sample.image, reading)
        return PreparedSample(sample, image, image_key, questions_of(dataset, sample))
    except SampleError as error:
        return Quarantined(sample.id, str(error), error.level)
    finally:
        reserve(0)  # let the next sample have its turn, also where nothing was decoded


def check_num_quarantined(
    quarantined: Sequence[Quarantined], num_samples: int, limit: float
) -> None:
    """Fail a shard in which too many samples cannot be used.

    Args:
        limit: largest fraction of the samples (``elicit.max_quarantined``).

    Raises:
        ShardError: naming them, of many only the first; the log of the attempt has all.
    """
    if len(quarantined) > limit * num_samples:
        texts = [f"{sample.sample_id}: {sample.reason}" for sample in quarantined]
        for text in texts:
            logger.debug("cannot be used: %s", text)
        reasons = "; ".join(texts[:_NUM_NAMED])
        if len(texts) > _NUM_NAMED:
            reasons += f"; and {len(texts) - _NUM_NAMED} more, see the log of the attempt"
        raise ShardError(
            f"{len(quarantined)} of {num_samples} samples cannot be used, more than "
            f"elicit.max_quarantined {limit:g} allows: {reasons}"
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
