"""Samples are prepared in their order, and those that cannot be used become quarantined."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sekd.data import images
from sekd.data.image_refs import ImageRef
from sekd.data.samples import Dataset, Sample
from sekd.data.shards import Quarantined
from sekd.engines import Answer, Ask, Conversation, ask
from sekd.errors import SampleError
from sekd.stages import prepare
from sekd.stages.prepare import PreparedSample, prepare_samples, run_conversations


class FakeEngine:
    """Gives every request the first option."""

    name, version = "fake", "0"

    def run(self, conversations: Iterable[Conversation[Any]]) -> Iterator[Any]:
        for conversation in conversations:
            try:
                requests = next(conversation)
                while True:
                    logprobs = np.zeros(1, dtype=np.float32)
                    requests = conversation.send([Answer(0, logprobs, 1, 0) for _ in requests])
            except StopIteration as end:
                yield end.value

    def close(self) -> None:
        pass


@pytest.fixture
def samples(seen: Dataset) -> list[Sample]:
    """Forty samples, so that preparation is ahead; the fourth has no image."""
    samples = [
        replace(sample, id=f"{number}-{sample.id}")
        for number in range(4)
        for sample in seen.samples[:10]
    ]
    samples[3] = replace(samples[3], image=ImageRef(Path("nowhere.png")))
    return samples


def test_samples_come_prepared_in_their_order(seen: Dataset, samples: list[Sample]) -> None:
    outcomes = list(prepare_samples(seen, samples))
    ids = [
        outcome.sample_id if isinstance(outcome, Quarantined) else outcome.sample.id
        for outcome in outcomes
    ]
    assert ids == [sample.id for sample in samples]
    assert outcomes[3] == Quarantined(samples[3].id, "nowhere.png: no such image")
    for outcome in outcomes:
        if isinstance(outcome, PreparedSample):
            assert len(outcome.questions or ()) == 4


def test_every_sample_has_one_outcome(seen: Dataset, samples: list[Sample]) -> None:
    """Also one that could not be prepared, and one whose conversation raises a SampleError."""

    def converse(prepared: PreparedSample) -> Conversation[str]:
        if prepared.sample.id == samples[5].id:
            raise SampleError("too long", level=2)
        yield from ask([Ask(prepared.prompt((1,)), (1,))])
        return prepared.sample.id

    outcomes = list(run_conversations(FakeEngine(), prepare_samples(seen, samples), converse))
    expected: list[str | Quarantined] = [sample.id for sample in samples]
    expected[3] = Quarantined(samples[3].id, "nowhere.png: no such image")
    expected[5] = Quarantined(samples[5].id, "too long", level=2)
    assert outcomes == expected


def test_the_bytes_of_images_that_wait_for_the_reader_are_bounded(
    seen: Dataset, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 56 x 56 pixels each, two fit; larger ones are decoded one by one."""
    decoded: list[str] = []
    to_rgb = images.to_rgb

    def count(image: Image.Image) -> Image.Image:
        decoded.append("image")
        return to_rgb(image)

    monkeypatch.setattr(images, "to_rgb", count)
    for limit, num_ahead in ((2 * 4 * 56 * 56, 2), (1, 1)):
        monkeypatch.setattr(prepare, "_BYTES_AHEAD", limit)
        decoded.clear()
        for number, outcome in enumerate(prepare_samples(seen, samples), start=1):
            if isinstance(outcome, PreparedSample):
                time.sleep(0.01)
                num_seen = number - (number > 3)  # the fourth sample has no image
                assert len(decoded) <= num_seen + num_ahead
        assert len(decoded) == len(samples) - 1


def test_a_reader_may_leave_while_images_wait_for_memory(
    seen: Dataset, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "_BYTES_AHEAD", 1)
    threads_before = set(threading.enumerate())  # other libraries keep threads of their own
    outcomes = prepare_samples(seen, samples)
    assert isinstance(next(outcomes), PreparedSample)
    outcomes.close()  # it would wait for ever for threads that nobody lets go on
    assert set(threading.enumerate()) <= threads_before
