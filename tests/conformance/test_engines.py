"""One suite over every engine: the same answers, and the same log-probabilities to 1e-3."""

from __future__ import annotations

import importlib.util
import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sekd.config import DistillSpec, LoraSpec, ModelSpec
from sekd.data import toyworld
from sekd.data.hashing import digest
from sekd.data.questions import labelled_questions
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError
from sekd.stages.chat import Chat
from sekd.stages.engines import Engine, Prompt, open_engine
from sekd.stages.models import load_model, load_processor

TOP_K = 5
NUM_IMAGES = 12
HAS_VLLM = importlib.util.find_spec("vllm") is not None
if os.environ.get("SEKD_REQUIRE_VLLM") and not HAS_VLLM:
    raise RuntimeError("SEKD_REQUIRE_VLLM is set, but vllm is not installed")

ENGINES = [
    "transformers",
    pytest.param(
        "vllm",
        marks=[pytest.mark.vllm, pytest.mark.skipif(not HAS_VLLM, reason="vllm not installed")],
    ),
]


class Exam:
    """Prompts over drawn pictures: second turns of dialogues, and joint prompts."""

    def __init__(self, model: Path) -> None:
        self.spec = ModelSpec(path=str(model), dtype="float32")
        self.chat = Chat(load_processor(self.spec), subject="organism")
        world = toyworld.SEEN
        taxonomy = Taxonomy.from_paths(world.taxonomy(), level_names=toyworld.RANKS)
        rng, leaves = random.Random(5), list(world.leaves)
        self.prompts, self.options, self.joint = [], [], []
        for number in range(NUM_IMAGES):
            leaf = leaves[number * 7 % len(leaves)]
            image = toyworld.draw(world, leaf, rng)
            key = digest(image.tobytes().hex())
            questions = labelled_questions(
                taxonomy,
                taxonomy.leaf(world.path(leaf)[-1]),
                sample_id=str(number),
                distractors="random",
                num_options=4,
                seed=0,
            )
            turn = self.chat.first_turn(questions[0], [taxonomy.root])
            if number % 2:  # prompts of different lengths in one batch
                turn = self.chat.next_turn(turn, number % 3, questions[1])
            self.prompts.append(Prompt(turn.token_ids, image, key))
            self.options.append(self.chat.letter_ids[: len(turn.question.options)])
            ids = self.chat.joint_prompt(questions, taxonomy.root)
            self.joint.append(Prompt(ids, image, key))

    def open(self, name: str, adapter: Path | None = None, batch_size: int = 5) -> Engine:
        return open_engine(
            name,
            self.spec,
            self.chat,
            adapter=adapter,
            top_k=TOP_K,
            batch_size=batch_size,
            engine_args={"max_model_len": 1024} if name == "vllm" else {},
        )


@pytest.fixture(scope="module")
def exam(tiny_model: Path) -> Exam:
    return Exam(tiny_model)


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter with weights that change the answers."""
    import torch

    from sekd.stages.distill.train import add_adapter

    base = load_model(ModelSpec(path=str(tiny_model), dtype="float32"))
    model = add_adapter(base, DistillSpec(lora=LoraSpec(rank=4, alpha=8, dropout=0.0)))
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.05, generator=generator)
    path = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(str(path))
    return path


@pytest.fixture(scope="module")
def reference(exam: Exam) -> Engine:
    """One prompt at a time through transformers: nothing batched, padded or cached."""
    return exam.open("transformers", batch_size=1)


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, exam: Exam) -> Iterator[Engine]:
    engine = exam.open(request.param)
    yield engine
    engine.close()


def test_answers_and_log_probabilities_agree(engine: Engine, reference: Engine, exam: Exam) -> None:
    answers = engine.answer(exam.prompts, exam.options, top_k=TOP_K)
    expected = reference.answer(exam.prompts, exam.options, top_k=TOP_K)
    for got, want in zip(answers, expected, strict=True):
        assert got.choice == want.choice
        assert got.num_prompt_tokens == want.num_prompt_tokens
        np.testing.assert_allclose(got.option_logprobs, want.option_logprobs, atol=1e-3)
        np.testing.assert_allclose(got.top_logprobs, want.top_logprobs, atol=1e-3)
        assert got.top_ids[0] == want.top_ids[0]
        assert len(got.top_ids) == len(set(got.top_ids.tolist())) == TOP_K


def test_log_probabilities_are_of_the_whole_vocabulary(engine: Engine, exam: Exam) -> None:
    """Raw, not renormalised over the letters: with one letter allowed it does not become 0."""
    (both,) = engine.answer(exam.prompts[:1], [exam.options[0][:2]], top_k=TOP_K)
    worst = int(both.option_logprobs.argmin())
    (alone,) = engine.answer(exam.prompts[:1], [exam.options[0][worst : worst + 1]], top_k=TOP_K)
    assert alone.choice == 0
    np.testing.assert_allclose(alone.option_logprobs[0], both.option_logprobs[worst], atol=1e-3)
    assert alone.option_logprobs[0] < -0.1


def test_options_outside_the_top_k_have_their_log_probability(
    engine: Engine, reference: Engine, exam: Exam
) -> None:
    rare = exam.chat.letter_ids[20:24]  # U to X, which no question uses
    (got,) = engine.answer(exam.prompts[:1], [rare], top_k=1)
    (want,) = reference.answer(exam.prompts[:1], [rare], top_k=1)
    assert not set(rare) & set(got.top_ids.tolist())
    np.testing.assert_allclose(got.option_logprobs, want.option_logprobs, atol=1e-3)


def test_the_image_matters(engine: Engine, exam: Exam) -> None:
    """The same words with another image give another distribution."""
    first, other = exam.prompts[0], exam.prompts[6]
    swapped = Prompt(first.token_ids, other.image, other.image_key)
    answers = engine.answer([first, swapped], [exam.options[0]] * 2, top_k=TOP_K)
    difference = np.abs(answers[0].option_logprobs - answers[1].option_logprobs).max()
    assert difference > 0.1


def test_generations_agree(engine: Engine, reference: Engine, exam: Exam) -> None:
    stop = exam.chat.end_ids[0]
    got = engine.generate(exam.joint, max_new_tokens=24, stop_id=stop)
    want = reference.generate(exam.joint, max_new_tokens=24, stop_id=stop)
    assert [reply.token_ids for reply in got] == [reply.token_ids for reply in want]
    assert [reply.num_prompt_tokens for reply in got] == [r.num_prompt_tokens for r in want]
    assert all(stop not in reply.token_ids for reply in got)


@pytest.mark.parametrize("name", ENGINES)
def test_adapters_answer_alike(name: str, exam: Exam, adapter: Path, reference: Engine) -> None:
    plain = exam.open("transformers", adapter=adapter, batch_size=1)
    want = plain.answer(exam.prompts, exam.options, top_k=TOP_K)
    plain.close()
    engine = exam.open(name, adapter=adapter)
    got = engine.answer(exam.prompts, exam.options, top_k=TOP_K)
    engine.close()
    base = reference.answer(exam.prompts, exam.options, top_k=TOP_K)
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one.option_logprobs, other.option_logprobs, atol=1e-3)
    changes = [
        np.abs(one.option_logprobs - other.option_logprobs).max()
        for one, other in zip(got, base, strict=True)
    ]
    assert max(changes) > 0.1


def test_transformers_takes_no_engine_args(exam: Exam) -> None:
    with pytest.raises(ConfigError, match="takes no engine_args"):
        open_engine(
            "transformers",
            exam.spec,
            exam.chat,
            top_k=1,
            batch_size=1,
            engine_args={"tensor_parallel_size": 2},
        )
