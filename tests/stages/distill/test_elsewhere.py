"""The adapter outside sekd: PEFT with transformers, and vLLM, answer with it as sekd does."""

from __future__ import annotations

import importlib.util
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from elicited import Elicited
from peft import PeftModel
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
from vllm_args import vllm_args

from sekd.config import DistillSpec, LoraSpec
from sekd.data import toyworld
from sekd.data.questions import Question, labelled_questions
from sekd.engines import Ask, Conversation, Prompt, Write, ask, open_engine, write
from sekd.errors import ConfigError
from sekd.models import prompts
from sekd.models.loading import load_model
from sekd.stages.distill.adapter import add_adapter
from sekd.stages.distill.train import train

NUM_IMAGES = 6
NUM_WRITTEN = 48
needs_vllm = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vllm not installed"
)


@dataclass(frozen=True)
class JointReply:
    """One image's joint reply, and the log-probabilities of its first level's letters."""

    text: str
    letter_logprobs: np.ndarray[Any, Any]


class Exam:
    """Images of the drawn world with the joint prompt."""

    def __init__(self, elicited: Elicited) -> None:
        self.model, self.chat = elicited.config.model, elicited.chat
        self.root = elicited.taxonomy.root
        rng, leaves = random.Random(3), list(toyworld.SEEN.leaves)
        self.images: list[Image.Image] = []
        self.questions: list[list[Question]] = []
        for number in range(NUM_IMAGES):
            leaf = leaves[number * 11 % len(leaves)]
            self.images.append(toyworld.draw(toyworld.SEEN, leaf, rng))
            self.questions.append(
                labelled_questions(
                    elicited.taxonomy,
                    elicited.taxonomy.leaf(toyworld.SEEN.path(leaf)[-1]),
                    sample_id=str(number),
                    distractors="random",
                    num_options=4,
                    seed=0,
                )
            )

    def answer_with_engine(self, name: str, adapter: Path | None) -> list[JointReply]:
        """Answer every image with one of sekd's engines."""
        args = vllm_args(name)
        engine = open_engine(
            name, self.model, self.chat, adapter=adapter, batch_size=4, engine_args=args
        )
        replies = dict(engine.run(self._conversation(number) for number in range(NUM_IMAGES)))
        engine.close()
        return [replies[number] for number in range(NUM_IMAGES)]

    def _conversation(self, number: int) -> Conversation[tuple[int, JointReply]]:
        questions, chat = self.questions[number], self.chat
        ids = chat.joint_prompt(questions, self.root)

        def prompt(token_ids: tuple[int, ...]) -> Prompt:
            return Prompt(token_ids, self.images[number], str(number))

        reply = yield from write(Write(prompt(ids), NUM_WRITTEN, chat.end_ids[0]))
        prefix = chat.encode(prompts.answer_prefix(questions[0]))
        letters = chat.joint_letter_ids(questions[0])[:4]
        (answer,) = yield from ask([Ask(prompt((*ids, *prefix)), letters)])
        return number, JointReply(chat.decode(reply.token_ids), answer.option_logprobs)

    def answer_without_sekd(self, adapter: Path) -> Iterator[JointReply]:
        """Answer every image with transformers and PEFT only, given the prompt and the adapter."""
        processor = AutoProcessor.from_pretrained(self.model.path)
        base = AutoModelForImageTextToText.from_pretrained(self.model.path, dtype=torch.float32)
        student = PeftModel.from_pretrained(base, str(adapter)).eval()
        for image, questions in zip(self.images, self.questions, strict=True):
            text = prompts.joint_questions(questions, self.root, "organism")
            content = [{"type": "image"}, {"type": "text", "text": text}]
            rendered = processor.apply_chat_template(
                [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
            )
            inputs = processor(text=[rendered], images=[image], return_tensors="pt")
            written = student.generate(**inputs, do_sample=False, max_new_tokens=NUM_WRITTEN)
            written = written[0, inputs["input_ids"].shape[1] :]
            first_line = f"{rendered}{questions[0].rank}:"
            with torch.inference_mode():
                logits = student(
                    **processor(text=[first_line], images=[image], return_tensors="pt")
                ).logits[0, -1]
            letters = processor.tokenizer.convert_tokens_to_ids(list("ABCD"))
            reply = processor.tokenizer.decode(written, skip_special_tokens=True)
            yield JointReply(reply, logits.log_softmax(-1)[letters].numpy())


def train_adapter(elicited: Elicited, directory: Path, lora: dict[str, Any]) -> Path:
    """Train a student until it answers differently from its base."""
    config = elicited.with_spec(
        lora={"rank": 12, "alpha": 12, "dropout": 0.0} | lora,
        learning_rate=0.005,  # at 0.01 an adapter of rank 80 diverges
        epochs=10.0,
        global_batch=4,
        warmup=0.0,
        runtime={"batch_size": 4},
    )
    return train(config, elicited.taxonomy, [elicited.shard], directory)


@pytest.mark.parametrize(
    ("name", "lora"),
    [
        ("transformers", {}),
        ("transformers", {"rslora": True}),
        ("transformers", {"dora": True}),
        pytest.param("vllm", {"rslora": True, "rank": 80}, marks=[pytest.mark.vllm, needs_vllm]),
    ],
    ids=str,
)
def test_engines_answer_with_the_adapter_as_plain_peft_does(
    elicited: Elicited, tmp_path: Path, name: str, lora: dict[str, Any]
) -> None:
    exam, adapter = Exam(elicited), train_adapter(elicited, tmp_path, lora)
    base_replies = exam.answer_with_engine("transformers", None)
    expected_replies = list(exam.answer_without_sekd(adapter))
    replies = exam.answer_with_engine(name, adapter)
    for reply, expected, base in zip(replies, expected_replies, base_replies, strict=True):
        assert reply.text == expected.text
        np.testing.assert_allclose(reply.letter_logprobs, expected.letter_logprobs, atol=1e-3)
        assert np.abs(reply.letter_logprobs - base.letter_logprobs).max() > 0.1
    changed = [
        base.text != expected.text
        for base, expected in zip(base_replies, expected_replies, strict=True)
    ]
    assert sum(changed) > NUM_IMAGES // 2


@pytest.mark.vllm
@needs_vllm
@pytest.mark.parametrize(
    ("lora", "message"),
    [({"dora": True}, "does not yet support DoRA"), ({"rank": 600}, "LoRA rank 600 is greater")],
    ids=["dora", "rank"],
)
def test_an_adapter_that_vllm_cannot_serve_is_refused_with_a_next_step(
    elicited: Elicited, tmp_path: Path, lora: dict[str, Any], message: str
) -> None:
    """The error comes before an engine is started."""
    spec = DistillSpec(lora=LoraSpec(target_modules=("q_proj",), **lora))
    add_adapter(load_model(elicited.config.model), spec).save_pretrained(str(tmp_path))
    with pytest.raises(ConfigError, match=message) as refused:
        Exam(elicited).answer_with_engine("vllm", tmp_path)
    assert "Set engine: transformers, or merge it" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.vllm
@needs_vllm
@pytest.mark.parametrize(
    ("rank", "max_rank"), [(2, 8), (16, 16), (65, 128), (128, 128), (300, 320)]
)
def test_vllm_gets_a_maximum_rank_that_fits_the_adapter(
    tmp_path: Path, rank: int, max_rank: int
) -> None:
    from sekd.engines.vllm_model import max_lora_rank

    content = {"r": rank, "lora_alpha": 8, "target_modules": ["q_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(content), encoding="utf-8")
    assert max_lora_rank(tmp_path) == max_rank
