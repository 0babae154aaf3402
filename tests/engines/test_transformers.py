"""The batches of the transformers engine: sorted by length, and halved when memory runs out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sekd.config import ModelSpec
from sekd.engines import Answer, Ask, Conversation, EngineOptions, Prompt, Write, ask, write
from sekd.engines import transformers as transformers_engine
from sekd.engines.transformers import TransformersEngine
from sekd.errors import ConfigError, FatalError, SampleError
from sekd.models.adapters import load_adapter
from sekd.models.chat import Chat
from sekd.models.loading import load_processor
from sekd.models.plain import plain_prompt

NUM_CONVERSATIONS = 8


@pytest.fixture(scope="module")
def spec(tiny_model: Path) -> ModelSpec:
    return ModelSpec(path=str(tiny_model), dtype="float32")


@pytest.fixture(scope="module")
def chat(spec: ModelSpec) -> Chat:
    return Chat(load_processor(spec), subject="organism")


def two_turns(chat: Chat, number: int) -> Conversation[tuple[int, list[Answer] | str]]:
    """Two requests that share an image, then one that continues the first."""
    image = Image.new("RGB", (56, 56), (25 * number, 100, 50))
    prefix_ids = chat.image_prefix_ids + chat.encode("what is the order of the organism ?")

    def request(text: str) -> Ask:
        ids = prefix_ids + chat.encode(text) * (1 + number % 3)
        return Ask(Prompt(ids, image, str(number)), chat.letter_ids[:4])

    try:
        answers = yield from ask([request("A . B"), request("C . D")])
        answers += yield from ask([request("A . B")])
        return number, answers
    except SampleError as error:
        return number, str(error)


def open_limited(
    spec: ModelSpec, chat: Chat, monkeypatch: pytest.MonkeyPatch, *, limit: int
) -> tuple[TransformersEngine, list[int]]:
    """An engine with batches of 16 whose model takes ``limit`` rows, and a list of their sizes."""
    engine = TransformersEngine(EngineOptions(model=spec, chat=chat, batch_size=16))
    forward, sizes = engine._model.forward, []

    def limited(input_ids: torch.Tensor, **inputs: object) -> object:
        if len(input_ids) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
        sizes.append(len(input_ids))
        return forward(input_ids=input_ids, **inputs)

    monkeypatch.setattr(engine._model, "forward", limited)
    return engine, sizes


def run(engine: TransformersEngine, chat: Chat) -> dict[int, list[Answer] | str]:
    return dict(engine.run(two_turns(chat, number) for number in range(NUM_CONVERSATIONS)))


def test_a_batch_that_is_too_large_is_halved_and_answers_as_before(
    spec: ModelSpec, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(TransformersEngine(EngineOptions(model=spec, chat=chat, batch_size=16)), chat)
    engine, sizes = open_limited(spec, chat, monkeypatch, limit=5)
    outcomes = run(engine, chat)
    assert max(sizes) <= 5
    assert engine._batch_size.size <= 5  # later batches are not tried at the old size again
    for number, answers in expected.items():
        for got, want in zip(outcomes[number], answers, strict=True):
            np.testing.assert_allclose(got.option_logprobs, want.option_logprobs, atol=1e-4)


def test_a_prompt_that_does_not_fit_alone_fails_its_own_conversation(
    spec: ModelSpec, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, _ = open_limited(spec, chat, monkeypatch, limit=1)  # two requests are two rows
    outcomes = run(engine, chat)
    assert len(outcomes) == NUM_CONVERSATIONS
    assert all("56x56 pixels does not fit into memory" in error for error in outcomes.values())


def test_a_model_that_fails_on_the_plain_picture_stops_the_run(
    spec: ModelSpec, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TransformersEngine(EngineOptions(model=spec, chat=chat, batch_size=4))

    def broken(**_: object) -> object:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(engine._model, "forward", broken)
    with pytest.raises(FatalError, match=r"on a plain picture, too: RuntimeError: mat1 and mat2"):
        run(engine, chat)


def test_a_batch_holds_prompts_of_similar_length(
    spec: ModelSpec, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TransformersEngine(EngineOptions(model=spec, chat=chat, batch_size=3))
    lengths: list[list[int]] = []
    forward = engine._model.forward

    def record(attention_mask: torch.Tensor, **inputs: object) -> object:
        lengths.append(attention_mask.sum(1).tolist())
        return forward(attention_mask=attention_mask, **inputs)

    monkeypatch.setattr(engine._model, "forward", record)

    def single(number: int) -> Conversation[None]:
        image = Image.new("RGB", (56, 56))
        ids = chat.image_prefix_ids + chat.encode("A . B") * number
        yield from ask([Ask(Prompt(ids, image, str(number)), chat.letter_ids[:2])])

    list(engine.run(single(number) for number in (1, 9, 2, 8, 3, 7)))
    short, long = lengths
    assert max(short) < min(long)


def overflow(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
    """What an adapter that is finite itself may do in a narrow dtype."""
    return output * float("inf") - output * float("inf")


def test_an_adapter_with_which_nothing_is_finite_is_refused(
    spec: ModelSpec, chat: Chat, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(base: Any, directory: Path) -> Any:
        adapted = load_adapter(base, directory)
        base.get_output_embeddings().register_forward_hook(overflow)
        return adapted

    monkeypatch.setattr(transformers_engine, "load_adapter", load)
    with pytest.raises(ConfigError, match=r"with this adapter the log-probabilities .* not finite"):
        TransformersEngine(EngineOptions(model=spec, chat=chat, adapter=adapter))


def test_one_image_without_finite_answers_is_set_aside_alone(
    spec: ModelSpec, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TransformersEngine(EngineOptions(model=spec, chat=chat, batch_size=4))
    expected = run(engine, chat)
    third = expected[2][0].option_logprobs

    def answer(choice: int, logprobs: Any, *counts: int) -> Answer:
        is_third = np.allclose(logprobs, third, atol=1e-4)
        return Answer(choice, logprobs * np.nan if is_third else logprobs, *counts)

    monkeypatch.setattr(transformers_engine, "Answer", answer)
    outcomes = run(engine, chat)
    assert "log-probabilities of the options are not finite (nan" in outcomes.pop(2)
    assert not [each for each in outcomes.values() if isinstance(each, str)]


def test_a_reply_without_finite_logits_stops_the_run(spec: ModelSpec, chat: Chat) -> None:
    engine = TransformersEngine(EngineOptions(model=spec, chat=chat, batch_size=4))
    engine._base.get_output_embeddings().register_forward_hook(overflow)
    prompt = Prompt(*plain_prompt(chat))
    with pytest.raises(FatalError, match="on a plain picture, too: FloatingPointError"):
        list(engine.run(iter([write(Write(prompt, 5, chat.end_ids[0]))])))
