"""Every engine fails the conversation about an image that it does not take, and no other."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from gallery_models import gallery_spec
from PIL import Image
from vllm_args import vllm_args

from sekd.config import ModelSpec
from sekd.engines import Answer, Ask, Conversation, Engine, Prompt, ask, open_engine
from sekd.errors import FatalError, SampleError
from sekd.models.chat import Chat, load_chat
from sekd.models.plain import plain_prompt

HAS_VLLM = importlib.util.find_spec("vllm") is not None
ON_VLLM = [pytest.mark.vllm, pytest.mark.skipif(not HAS_VLLM, reason="vllm not installed")]
ENGINES = ["transformers", pytest.param("vllm", marks=ON_VLLM)]
SIZES = [(100, 70), (1, 300), (56, 56), (300, 1), (120, 64)]
REFUSED = {1, 3}  # Qwen's processors take no aspect ratio above 200


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    return gallery_spec("qwen2.5-vl")


@pytest.fixture(scope="module")
def chat(spec: ModelSpec) -> Chat:
    return load_chat(spec, subject="organism")


def open_one(name: str, spec: ModelSpec, chat: Chat) -> Engine:
    return open_engine(name, spec, chat, batch_size=5, engine_args=vllm_args(name))


def prompt_about(chat: Chat, number: int) -> Prompt:
    image = Image.new("RGB", SIZES[number], (40 * number, 90, 200))
    return Prompt(chat.plain_prompt("What is it?"), image, str(number))


def question(chat: Chat, number: int) -> Conversation[tuple[int, Answer | str]]:
    try:
        (answer,) = yield from ask([Ask(prompt_about(chat, number), chat.letter_ids[:3])])
    except SampleError as error:
        return number, str(error)
    return number, answer


@pytest.mark.parametrize("name", ENGINES)
def test_only_the_refused_images_fail(name: str, spec: ModelSpec, chat: Chat) -> None:
    engine = open_one(name, spec, chat)
    outcomes = dict(engine.run(question(chat, number) for number in range(len(SIZES))))
    assert len(outcomes) == len(SIZES)
    for number, outcome in outcomes.items():
        if number in REFUSED:
            assert isinstance(outcome, str)
            assert "absolute aspect ratio must be smaller than 200, got 300" in outcome
        else:
            assert isinstance(outcome, Answer)
            ((_, alone),) = engine.run([question(chat, number)])
            np.testing.assert_allclose(outcome.option_logprobs, alone.option_logprobs, atol=1e-4)
    engine.close()


@pytest.mark.parametrize("name", ENGINES)
def test_where_no_image_is_taken_the_run_stops(
    name: str, spec: ModelSpec, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_one(name, spec, chat)

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    if name == "vllm":
        monkeypatch.setattr(engine._llm, "enqueue", broken)
    else:
        monkeypatch.setattr(engine._model, "forward", broken)
    with pytest.raises(FatalError, match=r"plain picture.*mat1 and mat2"):
        list(engine.run(question(chat, number) for number in range(2)))
    monkeypatch.undo()
    engine.close()


@pytest.mark.vllm
@pytest.mark.skipif(not HAS_VLLM, reason="vllm not installed")
def test_the_encoder_of_vllm_works_on_after_a_refused_image(spec: ModelSpec, chat: Chat) -> None:
    from sekd.engines.vllm import VllmEncoder

    encoder = VllmEncoder(spec, adapter=None, engine_args=vllm_args("vllm"))
    with pytest.raises(ValueError, match="Failed to apply Qwen2_5_VLProcessor"):
        encoder.encode([prompt_about(chat, number) for number in range(3)])
    before = encoder.encode([Prompt(*plain_prompt(chat))])
    after = encoder.encode([Prompt(*plain_prompt(chat)), prompt_about(chat, 0)])
    assert len(after) == 2
    np.testing.assert_allclose(before[0], after[0], atol=1e-4)
    encoder.close()
