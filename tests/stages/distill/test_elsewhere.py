"""The adapter elsewhere: plain PEFT and transformers, and vLLM, answer with it as sekd does."""

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
class Answered:
    """One image's joint reply, and the log-probabilities of its first level's letters."""

    reply: str
    letters: np.ndarray[Any, Any]


class Exam:
    """Drawn pictures under the joint prompt."""

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

    def through(self, name: str, adapter: Path | None) -> list[Answered]:
        """By one of our engines."""
        args = {"max_model_len": 1024} if name == "vllm" else {}
        engine = open_engine(
            name, self.model, self.chat, adapter=adapter, batch_size=4, engine_args=args
        )
        answered = dict(engine.run(self._talk(number) for number in range(NUM_IMAGES)))
        engine.close()
        return [answered[number] for number in range(NUM_IMAGES)]

    def _talk(self, number: int) -> Conversation[tuple[int, Answered]]:
        questions, chat = self.questions[number], self.chat
        ids = chat.joint_prompt(questions, self.root)

        def prompt(token_ids: tuple[int, ...]) -> Prompt:
            return Prompt(token_ids, self.images[number], str(number))

        reply = yield from write(Write(prompt(ids), NUM_WRITTEN, chat.end_ids[0]))
        lead = chat.encode(prompts.answer_prefix(questions[0]))
        letters = chat.joint_letter_ids(questions[0])[:4]
        (answer,) = yield from ask([Ask(prompt((*ids, *lead)), letters)])
        return number, Answered(chat.decode(reply.token_ids), answer.option_logprobs)

    def plainly(self, adapter: Path) -> Iterator[Answered]:
        """As a user does who has the adapter and the prompt, and not sekd."""
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
            lead = f"{rendered}{questions[0].rank}:"
            with torch.inference_mode():
                logits = student(
                    **processor(text=[lead], images=[image], return_tensors="pt")
                ).logits[0, -1]
            letters = processor.tokenizer.convert_tokens_to_ids(list("ABCD"))
            reply = processor.tokenizer.decode(written, skip_special_tokens=True)
            yield Answered(reply, logits.log_softmax(-1)[letters].numpy())


def learned(elicited: Elicited, directory: Path, kind: dict[str, Any]) -> Path:
    """A student that answers otherwise than its base, as ``sekd distill`` leaves it."""
    config = elicited.with_spec(
        lora={"rank": 12, "alpha": 12, "dropout": 0.0} | kind,
        learning_rate=0.01,
        epochs=10.0,
        global_batch=4,
        warmup=0.0,
        runtime={"batch_size": 4},
    )
    return train(config, elicited.taxonomy, [elicited.shard], directory)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("transformers", {}),
        ("transformers", {"rslora": True}),
        ("transformers", {"dora": True}),
        pytest.param("vllm", {"rslora": True, "rank": 80}, marks=[pytest.mark.vllm, needs_vllm]),
    ],
    ids=str,
)
def test_the_student_answers_alike(
    elicited: Elicited, tmp_path: Path, name: str, kind: dict[str, Any]
) -> None:
    exam, adapter = Exam(elicited), learned(elicited, tmp_path, kind)
    base = exam.through("transformers", None)
    expected = list(exam.plainly(adapter))
    for number, got in enumerate(exam.through(name, adapter)):
        want = expected[number]
        assert got.reply == want.reply
        np.testing.assert_allclose(got.letters, want.letters, atol=1e-3)
        assert np.abs(got.letters - base[number].letters).max() > 0.1
    changed = [got.reply != want.reply for got, want in zip(base, expected, strict=True)]
    assert sum(changed) > NUM_IMAGES // 2


@pytest.mark.vllm
@needs_vllm
@pytest.mark.parametrize(
    ("lora", "message"),
    [({"dora": True}, "does not yet support DoRA"), ({"rank": 600}, "LoRA rank 600 is greater")],
    ids=["dora", "rank"],
)
def test_what_vllm_does_not_serve_is_refused_with_the_way_out(
    elicited: Elicited, tmp_path: Path, lora: dict[str, Any], message: str
) -> None:
    """Before an engine is started."""
    spec = DistillSpec(lora=LoraSpec(target_modules=("q_proj",), **lora))
    add_adapter(load_model(elicited.config.model), spec).save_pretrained(str(tmp_path))
    with pytest.raises(ConfigError, match=message) as refused:
        Exam(elicited).through("vllm", tmp_path)
    assert "Set engine: transformers, or merge it" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.vllm
@needs_vllm
@pytest.mark.parametrize(("rank", "room"), [(2, 8), (16, 16), (65, 128), (128, 128), (300, 320)])
def test_vllm_makes_room_for_the_rank(tmp_path: Path, rank: int, room: int) -> None:
    from sekd.engines.vllm import _max_rank

    content = {"r": rank, "lora_alpha": 8, "target_modules": ["q_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(content), encoding="utf-8")
    assert _max_rank(tmp_path) == room
