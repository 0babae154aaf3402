"""The model families of the examples work, as tiny random models.

Weights are random and small; configs, processors and placeholders are the real classes. They need
torchvision, which cannot be imported beside every CPU build of torch.
"""

from __future__ import annotations

import importlib.util
import re
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

pytest.importorskip("torchvision", exc_type=RuntimeError)

import transformers as hf
from elicited import Elicited, elicit
from PIL import Image
from torch import nn
from vllm_args import vllm_args

from sekd.config import DistillSpec, LoraSpec, ModelSpec
from sekd.data.questions import Question
from sekd.data.taxonomy import Taxonomy
from sekd.engines import (
    Answer,
    Ask,
    Conversation,
    Engine,
    Prompt,
    Write,
    ask,
    open_engine,
    write,
)
from sekd.errors import ConfigError
from sekd.models.batching import Batcher, forward_arguments, to_device
from sekd.models.chat import Chat
from sekd.models.hooks import logits_at
from sekd.models.loading import load_model, load_processor
from sekd.models.lora_targets import find_targets
from sekd.models.merge import merged_model
from sekd.stages.distill.adapter import add_adapter
from sekd.stages.distill.collate import DistillCollator, MicroBatch
from sekd.stages.distill.objective import Objective

TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 4096,
}
SPECIAL = ["<|im_start|>", "<|im_end|>"]


def build_tokenizer(image_parts: list[str], **named: str) -> Any:
    """Build a byte-level BPE tokenizer with the family's placeholders."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=[*SPECIAL, *image_parts], initial_alphabet=alphabet
    )
    letters = " ".join(f"{letter}." for letter in string.ascii_uppercase)
    bpe.train_from_iterator([f"what is the phylum of the organism? {letters}"] * 9, trainer)
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        extra_special_tokens=named,
    )


def template(image: str) -> str:
    return (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for p in m['content'] %}"
        f"{{% if p['type'] == 'image' %}}{image}{{% else %}}{{{{ p['text'] }}}}{{% endif %}}"
        "{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


def qwen2_5_vl() -> tuple[Any, Any]:
    parts = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer = build_tokenizer(parts)
    ids = tokenizer.convert_tokens_to_ids(parts)
    config = hf.Qwen2_5_VLConfig(
        text_config=TEXT
        | {
            "vocab_size": len(tokenizer),
            "rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6]},
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "out_hidden_size": TEXT["hidden_size"],
            "fullatt_block_indexes": [1],
        },
        vision_start_token_id=ids[0],
        vision_end_token_id=ids[1],
        image_token_id=ids[2],
        video_token_id=ids[3],
    )
    processor = hf.Qwen2_5_VLProcessor(
        hf.Qwen2VLImageProcessor(min_pixels=28 * 28 * 4, max_pixels=28 * 28 * 16),
        tokenizer,
        hf.Qwen2VLVideoProcessor(),
        chat_template=template("<|vision_start|><|image_pad|><|vision_end|>"),
    )
    return hf.Qwen2_5_VLForConditionalGeneration(config), processor


def internvl() -> tuple[Any, Any]:
    parts = ["<img>", "</img>", "<IMG_CONTEXT>", "<video>"]
    names = ("start_image_token", "end_image_token", "context_image_token", "video_token")
    tokenizer = build_tokenizer(parts, **dict(zip(names, parts, strict=True)))
    config = hf.InternVLConfig(
        text_config=TEXT | {"model_type": "qwen2", "vocab_size": len(tokenizer)},
        vision_config={
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 48,
            "image_size": [56, 56],
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    processor = hf.InternVLProcessor(
        hf.GotOcr2ImageProcessor(
            size={"height": 56, "width": 56}, crop_to_patches=True, max_patches=4
        ),
        tokenizer,
        hf.InternVLVideoProcessor(),
        image_seq_length=4,
        chat_template=template("<IMG_CONTEXT>\n"),
    )
    return hf.InternVLForConditionalGeneration(config), processor


def llava_onevision() -> tuple[Any, Any]:
    tokenizer = build_tokenizer(["<image>", "<video>"])
    pinpoints = [[56, 56], [56, 112], [112, 56]]
    config = hf.LlavaOnevisionConfig(
        text_config=TEXT | {"model_type": "qwen2", "vocab_size": len(tokenizer)},
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 48,
            "image_size": 56,
            "patch_size": 14,
            "vision_use_head": False,
        },
        image_grid_pinpoints=pinpoints,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
    )
    processor = hf.LlavaOnevisionProcessor(
        hf.LlavaOnevisionImageProcessor(
            size={"height": 56, "width": 56}, image_grid_pinpoints=pinpoints
        ),
        tokenizer,
        hf.LlavaOnevisionVideoProcessor(),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=template("<image>"),
    )
    return hf.LlavaOnevisionForConditionalGeneration(config), processor


FAMILIES = [qwen2_5_vl, internvl, llava_onevision]


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda build: build.__name__)
def spec(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    torch.manual_seed(0)
    build: Callable[[], tuple[Any, Any]] = request.param
    model, processor = build()
    path = tmp_path_factory.mktemp(build.__name__)
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return ModelSpec(path=str(path), dtype="float32")


ElicitedBatch = tuple[Elicited, MicroBatch]


@pytest.fixture(scope="module")
def elicited_batch(
    spec: ModelSpec, world: Path, tmp_path_factory: pytest.TempPathFactory
) -> ElicitedBatch:
    """Signals of the family's model as a teacher, and a batch of joint and replay examples."""
    elicited = elicit(world, tmp_path_factory.mktemp("signals"), f"model.path={spec.path}")
    batcher = Batcher(elicited.chat, forward_arguments(load_model(spec)))
    collate = DistillCollator(batcher)
    return elicited, collate(list(elicited.dataset(replay=0.5)))


def draw_images() -> list[Image.Image]:
    """Draw images of different sizes, which take different numbers of tokens."""
    rng = np.random.default_rng(0)
    sizes = [(56, 56), (56, 112), (112, 56), (70, 60)]
    return [Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)) for size in sizes]


def single(request: Ask) -> Conversation[Answer]:
    """A conversation of this request alone."""
    (answer,) = yield from ask([request])
    return answer


def exercise(
    chat: Chat, questions: list[Question], taxonomy: Taxonomy, number: int, image: Image.Image
) -> Conversation[tuple[list[tuple[Ask, Answer]], tuple[int, ...]]]:
    """Ask all questions at once, then a dialogue of one to three turns, then write a text."""

    def requests_of(*token_ids: tuple[int, ...]) -> list[Ask]:
        return [Ask(Prompt(ids, image, str(number)), chat.letter_ids[:3]) for ids in token_ids]

    requests = requests_of(*(chat.first_turn(question, []).token_ids for question in questions))
    asked = list(zip(requests, (yield from ask(requests)), strict=True))
    turn = chat.first_turn(questions[0], [taxonomy.root])
    for level in range(1 + number % len(questions)):
        if level:
            last = asked[-1][1].choice % len(turn.question.options)
            turn = chat.next_turn(turn, last, questions[level])
        (request,) = requests_of(turn.token_ids)
        asked.append((request, (yield from single(request))))
    prompt = Prompt(chat.joint_prompt(questions, taxonomy.root), image, str(number))
    reply = yield from write(Write(prompt, 8, chat.end_ids[0]))
    return asked, reply.token_ids


def check_answers(
    engine: Engine, reference: Engine, conversations: list[Any], tolerance: float
) -> None:
    """Check each answer of these conversations against the reference's answer to it alone."""
    results = list(engine.run(iter(conversations)))
    assert len(results) == len(conversations)
    for asked, _ in results:
        for request, got in asked:
            (want,) = reference.run([single(request)])
            assert got.num_prompt_tokens == want.num_prompt_tokens
            np.testing.assert_allclose(got.option_logprobs, want.option_logprobs, atol=tolerance)


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_conversations_are_answered_like_their_requests_alone(
    spec: ModelSpec, questions: list[Question], taxonomy: Taxonomy, batch_size: int
) -> None:
    """Images have several sizes, positions three dimensions, and the cache holes."""
    chat = Chat(load_processor(spec), subject="organism")
    engine, reference = (
        open_engine("transformers", spec, chat, batch_size=size, engine_args={})
        for size in (batch_size, 1)
    )
    images = list(enumerate(draw_images()))

    def conversations() -> list[Any]:
        return [exercise(chat, questions, taxonomy, number, image) for number, image in images]

    check_answers(engine, reference, conversations(), 1e-4)
    texts = sorted(text for _, text in engine.run(conversations()))
    assert texts == sorted(text for _, text in reference.run(conversations()))


def test_inputs_equal_those_of_the_processor_for_the_whole_text(
    spec: ModelSpec, questions: list[Question], taxonomy: Taxonomy
) -> None:
    """Compare our ids with an expanded image prefix to one processor call with all the text."""
    processor = load_processor(spec)
    chat, model = Chat(processor, subject="organism"), load_model(spec)
    arguments = forward_arguments(model)
    batcher = Batcher(chat, arguments)
    for number, image in enumerate(draw_images()):
        turn = chat.first_turn(questions[0], [taxonomy.root])
        batch = batcher([turn.token_ids], [image], [str(number)])
        types = {"return_mm_token_type_ids": True} if "mm_token_type_ids" in arguments else {}
        whole = processor(text=[turn.text], images=[image], return_tensors="pt", **types)
        assert batch.inputs["input_ids"].tolist() == whole["input_ids"].tolist()
        with torch.inference_mode():
            expected = model(**whole).logits[:, -1]
            position = torch.tensor([batch.lengths[0] - 1])
            with logits_at(model.get_output_embeddings(), torch.tensor([0]), position):
                got = model(**to_device(batch.inputs, model)).logits
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("in_4bit", [False, True], ids=["whole", "in 4 bits"])
def test_only_the_language_model_is_adapted(spec: ModelSpec, in_4bit: bool) -> None:
    """In 4 bits only the language model is quantised; no other module can be a LoRA target."""
    base = load_model(spec, in_4bit=in_4bit)
    linear = {
        name: module for name, module in base.named_modules() if isinstance(module, nn.Linear)
    }
    inside = [name for name in linear if name.startswith("model.language_model.layers.")]
    outside = linear.keys() - {*inside}
    for part in ("vis", "merger|projector", "lm_head"):
        assert any(re.search(part, name) for name in outside), part
    assert list(find_targets(base, None).modules) == inside
    assert len(inside) == 7 * TEXT["num_hidden_layers"]
    for name in outside:
        with pytest.raises(ConfigError, match=rf"{name} is no linear layer of the language"):
            find_targets(base, [name])
    quantised = [name for name, module in linear.items() if module.weight.dtype == torch.uint8]
    assert quantised == (inside if in_4bit else [])


@pytest.mark.parametrize("kind", ["plain", "rslora", "dora"])
def test_only_the_adapter_gets_gradients(elicited_batch: ElicitedBatch, kind: str) -> None:
    """A backward pass of the whole loss gives gradients to adapter weights alone."""
    elicited, batch = elicited_batch
    spec = DistillSpec(lora=LoraSpec(rank=2, **({} if kind == "plain" else {kind: True})))
    model = add_adapter(load_model(elicited.config.model), spec)
    objective = Objective(model, elicited.config.model, spec, ["block_1", "final_norm"])
    terms = objective(model.train(), batch)
    assert terms.keys() == {"hard", "format", "soft", "feature", "replay"}
    objective.weighted(terms).backward()
    reached = {name for name, weights in model.named_parameters() if weights.grad is not None}
    assert reached == {name for name, _ in model.named_parameters() if "lora_" in name}
    num_weights = 3 if kind == "dora" else 2
    assert len(reached) == num_weights * 7 * TEXT["num_hidden_layers"]
    assert all(".language_model.layers." in name for name in reached)


def test_the_merged_student_answers_like_base_and_adapter(spec: ModelSpec, tmp_path: Path) -> None:
    model = add_adapter(load_model(spec), DistillSpec(lora=LoraSpec(rank=2)))
    torch.manual_seed(0)
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.1)
    model.save_pretrained(str(tmp_path))
    merged = load_model(spec.model_copy(update={"path": str(merged_model(spec, tmp_path))}))
    tokens = torch.arange(20, 40)[None]
    with torch.inference_mode(), model.disable_adapter():
        base_logits = model(input_ids=tokens).logits
    with torch.inference_mode():
        expected, got = model.eval()(input_ids=tokens).logits, merged(input_ids=tokens).logits
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    assert (expected - base_logits).abs().max() > 0.01


@pytest.mark.vllm
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm not installed")
# LLaVA-OneVision is left out: vLLM 0.32 expects other weight names than transformers 5 saves.
@pytest.mark.parametrize("spec", [qwen2_5_vl, internvl], indirect=True)
def test_vllm_answers_like_transformers(
    spec: ModelSpec, questions: list[Question], taxonomy: Taxonomy
) -> None:
    chat = Chat(load_processor(spec), subject="organism")
    reference = open_engine("transformers", spec, chat, batch_size=1, engine_args={})
    engine = open_engine("vllm", spec, chat, batch_size=1, engine_args=vllm_args("vllm", 2048))
    conversations = [
        exercise(chat, questions, taxonomy, number, image)
        for number, image in enumerate(draw_images())
    ]
    check_answers(engine, reference, conversations, 1e-3)
    engine.close()
