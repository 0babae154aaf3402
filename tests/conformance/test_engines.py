"""Every engine gives the same answers, and the same log-probabilities to 1e-3."""

from __future__ import annotations

import importlib.util
import os
import random
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gallery_models import gallery_spec
from hypothesis import given, settings
from PIL import Image
from random_taxonomies import taxonomies
from vllm_args import vllm_args

from sekd.config import ModelSpec
from sekd.data import toyworld
from sekd.data.questions import labelled_questions
from sekd.data.samples import Sample
from sekd.data.taxonomy import Taxonomy
from sekd.engines import (
    Answer,
    Ask,
    Conversation,
    Engine,
    Prompt,
    Reply,
    Write,
    ask,
    open_engine,
    write,
)
from sekd.engines.base import Result
from sekd.engines.driver import ActiveConversation
from sekd.errors import ConfigError, FatalError, SampleError
from sekd.io.hashing import digest
from sekd.models.chat import Chat, DialogueTurn
from sekd.models.loading import load_processor
from sekd.models.open_naming import OpenAnswers
from sekd.stages.answers import PathStep
from sekd.stages.naming import name_path
from sekd.stages.prepare import PreparedSample

NUM_IMAGES = 12
NUM_TAXONOMIES = 1000
MAX_MODEL_LEN = 1024
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


def single(request: Ask) -> Conversation[Answer]:
    """A conversation of this request alone."""
    (answer,) = yield from ask([request])
    return answer


class Exam:
    """Drawn images with their questions."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.chat = Chat(load_processor(self.spec), subject="organism")
        self.blind = Chat(load_processor(self.spec), subject="organism", with_image=False)
        world = toyworld.SEEN
        self.taxonomy = Taxonomy.from_paths(world.taxonomy(), level_names=toyworld.RANKS)
        rng, leaves = random.Random(5), list(world.leaves)
        self.images: list[Image.Image] = []
        self.questions = []
        for number in range(NUM_IMAGES):
            leaf = leaves[number * 7 % len(leaves)]
            self.images.append(toyworld.draw(world, leaf, rng))
            self.questions.append(
                labelled_questions(
                    self.taxonomy,
                    self.taxonomy.leaf(world.path(leaf)[-1]),
                    sample_id=str(number),
                    distractors="random",
                    num_options=4,
                    seed=0,
                )
            )

    def prompt(self, number: int, token_ids: tuple[int, ...]) -> Prompt:
        image = self.images[number]
        return Prompt(token_ids, image, digest(image.tobytes().hex()))

    def ask(self, number: int, turn: DialogueTurn) -> Ask:
        letters = self.chat.letter_ids[: len(turn.question.options)]
        return Ask(self.prompt(number, turn.token_ids), letters)

    def dialogue(self, number: int) -> Conversation[list[tuple[Ask, Answer]]]:
        """Ask one to four turns, so that dialogues of a batch end at different times."""
        asked: list[tuple[Ask, Answer]] = []
        turn = self.chat.first_turn(self.questions[number][0], [self.taxonomy.root])
        for level in range(1 + number % 4):
            if level:
                question = self.questions[number][level]
                turn = self.chat.next_turn(turn, asked[-1][1].choice, question)
            request = self.ask(number, turn)
            (answer,) = yield from ask([request])
            asked.append((request, answer))
        return asked

    def exercise(self, number: int) -> Conversation[list[tuple[Ask, Answer]]]:
        """Ask several questions at once, then a dialogue, then the first question again."""
        turns = [self.chat.first_turn(question, []) for question in self.questions[number]]
        requests = [self.ask(number, turn) for turn in turns]
        answers = yield from ask(requests)
        asked = list(zip(requests, answers, strict=True))
        asked += yield from self.dialogue(number)
        (again,) = yield from ask(requests[:1])
        return [*asked, (requests[0], again)]

    def joint(self, number: int) -> Conversation[Reply]:
        ids = self.chat.joint_prompt(self.questions[number], self.taxonomy.root)
        reply = yield from write(Write(self.prompt(number, ids), 24, self.chat.end_ids[0]))
        return reply

    def open(
        self,
        name: str,
        adapter: Path | None = None,
        batch_size: int = 5,
        *,
        is_compiled: bool = False,
    ) -> Engine:
        """Open an engine, vLLM compiled as users have it or not."""
        return open_engine(
            name,
            self.spec,
            self.chat,
            adapter=adapter,
            batch_size=batch_size,
            engine_args=vllm_args(name, MAX_MODEL_LEN, is_compiled=is_compiled),
        )


@pytest.fixture(scope="module")
def exam(tiny_model: Path) -> Exam:
    return Exam(ModelSpec(path=str(tiny_model), dtype="float32"))


@pytest.fixture(scope="module")
def reference(exam: Exam) -> Engine:
    """Transformers with one prompt at a time: nothing is batched, padded or cached."""
    return exam.open("transformers", batch_size=1)


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, exam: Exam) -> Iterator[Engine]:
    engine = exam.open(request.param, is_compiled=True)
    yield engine
    engine.close()


def check(answered: Sequence[tuple[Ask, Answer]], reference: Engine) -> None:
    """Check each answer against the reference's answer to its request alone."""
    for request, got in answered:
        (want,) = reference.run([single(request)])
        assert got.choice == want.choice
        assert got.num_prompt_tokens == want.num_prompt_tokens
        np.testing.assert_allclose(got.option_logprobs, want.option_logprobs, atol=1e-3)


@pytest.mark.parametrize("kind", ["dialogue", "exercise"])
def test_a_conversation_is_answered_like_its_requests_single(
    engine: Engine, reference: Engine, exam: Exam, kind: str
) -> None:
    results = list(engine.run(getattr(exam, kind)(number) for number in range(NUM_IMAGES)))
    assert len(results) == NUM_IMAGES
    for answered in results:
        check(answered, reference)


def test_cached_tokens_are_not_computed_again(engine: Engine, exam: Exam) -> None:
    """The limits are loose by 32 tokens, the size of vLLM's cache blocks on the CPU."""
    results = list(engine.run(exam.exercise(number) for number in range(NUM_IMAGES)))
    for answered in results:
        first, *others = [answer for _, answer in answered[:4]]
        dialogue = answered[4:-1]
        assert first.num_cached_tokens < 40
        assert all(answer.num_cached_tokens >= 32 for answer in others)  # the image is in there
        for (_, before), (_, after) in pairwise(dialogue):
            assert before.num_prompt_tokens - 32 < after.num_cached_tokens
            assert after.num_cached_tokens <= before.num_prompt_tokens


def test_log_probabilities_are_of_the_whole_vocabulary(engine: Engine, exam: Exam) -> None:
    """They are not renormalised over the letters: with one letter allowed it does not become 0."""
    turn = exam.chat.first_turn(exam.questions[0][0], [exam.taxonomy.root])
    prompt = exam.prompt(0, turn.token_ids)
    (both,) = engine.run([single(Ask(prompt, exam.chat.letter_ids[:2]))])
    worst = int(both.option_logprobs.argmin())
    (worst_only,) = engine.run([single(Ask(prompt, exam.chat.letter_ids[worst : worst + 1]))])
    assert worst_only.choice == 0
    np.testing.assert_allclose(
        worst_only.option_logprobs[0], both.option_logprobs[worst], atol=1e-3
    )
    assert worst_only.option_logprobs[0] < -0.1


def test_all_letters_may_be_asked_for(engine: Engine, reference: Engine, exam: Exam) -> None:
    turn = exam.chat.first_turn(exam.questions[0][0], [exam.taxonomy.root])
    request = Ask(exam.prompt(0, turn.token_ids), exam.chat.letter_ids)
    check([(request, next(iter(engine.run([single(request)]))))], reference)


def test_hundreds_of_tokens_may_be_asked_for(engine: Engine, reference: Engine, exam: Exam) -> None:
    """vLLM gives 128 log-probabilities a request; branches of open naming can have more."""
    turn = exam.chat.first_turn(exam.questions[0][0], [exam.taxonomy.root])
    size = len(exam.chat.tokenizer)
    option_ids = tuple(random.Random(0).sample(range(size), min(size, 300)))
    assert len(option_ids) > 2 * 128
    request = Ask(exam.prompt(0, turn.token_ids), option_ids)
    few = Ask(request.prompt, option_ids[:3])
    for requests in ([request], [few, request, few]):
        (answers,) = engine.run([ask(requests)])
        assert len(answers) == len(requests)
        check(list(zip(requests, answers, strict=True)), reference)
        for answer in answers:
            assert 0 <= answer.num_cached_tokens < answer.num_prompt_tokens


def test_open_naming_is_the_same_in_every_engine(
    engine: Engine, reference: Engine, exam: Exam
) -> None:
    """A thousand random taxonomies, each named once: always a path, from the same probabilities."""
    drawn: list[Taxonomy] = []

    @settings(max_examples=NUM_TAXONOMIES, database=None, derandomize=True, deadline=None)
    @given(taxonomies([node.name for node in exam.taxonomy.nodes][:40]))
    def draw(taxonomy: Taxonomy) -> None:
        drawn.append(taxonomy)

    draw()

    def name(number: int) -> Conversation[tuple[int, list[PathStep], list[tuple[Ask, Answer]]]]:
        answers = OpenAnswers(exam.chat, drawn[number])
        image = exam.images[number % NUM_IMAGES]
        key = digest(image.tobytes().hex())
        prepared = PreparedSample(Sample(str(number), None, None), image, key, None)
        steps, asked = yield from recorded(name_path(answers, prepared))
        return number, steps, asked

    named = list(engine.run(name(number) for number in range(len(drawn))))
    assert len(named) == len(drawn) >= NUM_TAXONOMIES
    for number, steps, asked in named:
        taxonomy, node = drawn[number], drawn[number].root
        for step in steps:
            assert step.node in (node, *taxonomy.children(node))
            assert np.exp(step.logprobs).sum() == pytest.approx(1, abs=1e-6)
            node = step.node
        assert node.id in taxonomy.leaf_ids
        check(asked, reference)


def recorded(conversation: Conversation[Result]) -> Conversation[tuple[Result, list[Any]]]:
    """Pass a conversation on, and return its requests and their answers with its result."""
    active, asked = ActiveConversation(conversation), []
    while not active.is_done:
        requests = active.requests
        responses = yield requests
        asked += zip(requests, responses, strict=True)
        active.answer(responses)
    return active.result, asked


def test_the_image_matters(engine: Engine, exam: Exam) -> None:
    """The same words with another image, or with none, give another distribution."""
    turn = exam.chat.first_turn(exam.questions[0][0], [exam.taxonomy.root])
    words = exam.blind.first_turn(exam.questions[0][0], [exam.taxonomy.root])
    letters = exam.chat.letter_ids[:4]
    prompts = [
        exam.prompt(0, turn.token_ids),
        exam.prompt(6, turn.token_ids),
        Prompt(words.token_ids, None, ""),
    ]
    first, other, blind = (
        next(iter(engine.run([single(Ask(prompt, letters))]))).option_logprobs for prompt in prompts
    )
    assert np.abs(first - other).max() > 0.1
    assert np.abs(first - blind).max() > 0.1


def test_prompts_with_and_without_an_image_mix(
    engine: Engine, reference: Engine, exam: Exam
) -> None:
    requests = []
    for number in range(6):
        has_image = number % 2 == 1
        chat = exam.chat if has_image else exam.blind
        turn = chat.first_turn(exam.questions[number][0], [exam.taxonomy.root])
        prompt = exam.prompt(number, turn.token_ids)
        if not has_image:
            prompt = Prompt(turn.token_ids, None, "")
        requests.append(Ask(prompt, exam.chat.letter_ids[:4]))

    def numbered(number: int) -> Conversation[tuple[int, Answer]]:
        return number, (yield from single(requests[number]))

    answers = dict(engine.run(numbered(number) for number in range(len(requests))))
    assert len(answers) == len(requests)
    check([(requests[number], answer) for number, answer in answers.items()], reference)


def test_texts_agree(engine: Engine, reference: Engine, exam: Exam) -> None:
    def question_and_text(number: int) -> Conversation[tuple[int, Reply]]:
        """Ask a question first, so that the text continues a cached prompt."""
        turn = exam.chat.first_turn(exam.questions[number][0], [])
        yield from single(Ask(exam.prompt(number, turn.token_ids), exam.chat.letter_ids[:4]))
        return number, (yield from exam.joint(number))

    stop = exam.chat.end_ids[0]
    replies = dict(engine.run(question_and_text(number) for number in range(NUM_IMAGES)))
    for number in range(NUM_IMAGES):
        (want,) = reference.run([exam.joint(number)])
        assert replies[number].token_ids == want.token_ids
        assert replies[number].num_prompt_tokens == want.num_prompt_tokens
        assert stop not in want.token_ids


def test_a_text_ends_at_max_new_tokens(engine: Engine, exam: Exam) -> None:
    def short(max_new_tokens: int) -> Conversation[int]:
        ids = exam.chat.joint_prompt(exam.questions[0], exam.taxonomy.root)
        reply = yield from write(Write(exam.prompt(0, ids), max_new_tokens, exam.chat.end_ids[0]))
        return len(reply.token_ids)

    assert sorted(engine.run(short(limit) for limit in (1, 2, 3))) == [1, 2, 3]


def test_images_are_opened_when_there_is_room(exam: Exam) -> None:
    engine = exam.open("transformers", batch_size=1)
    opened = []

    def dialogues() -> Iterator[Conversation[list[tuple[Ask, Answer]]]]:
        for number in range(NUM_IMAGES):
            opened.append(number)
            yield exam.dialogue(number)

    next(iter(engine.run(dialogues())))
    assert len(opened) < NUM_IMAGES


@pytest.mark.vllm
@pytest.mark.skipif(not HAS_VLLM, reason="vllm not installed")
def test_a_prompt_that_vllm_refuses_fails_only_its_own_conversation(exam: Exam) -> None:
    engine = exam.open("vllm")

    def dialogue(number: int) -> Conversation[str]:
        try:
            asked = yield from exam.dialogue(number)
            if number == 3:
                too_long = asked[-1][0].prompt.token_ids + exam.chat.end_ids * (2 * MAX_MODEL_LEN)
                yield from single(Ask(exam.prompt(3, too_long), exam.chat.letter_ids[:4]))
        except SampleError as error:
            return str(error)
        return "answered"

    outcomes = list(engine.run(dialogue(number) for number in range(NUM_IMAGES)))
    assert outcomes.count("answered") == NUM_IMAGES - 1
    assert any("does not take this prompt" in outcome for outcome in outcomes)

    def broken() -> list[object]:
        raise RuntimeError("out of luck")

    engine._llm.llm_engine.step = broken
    with pytest.raises(FatalError, match="the vLLM engine died: RuntimeError: out of luck"):
        list(engine.run([exam.dialogue(0)]))
    engine.close()


@pytest.mark.vllm
@pytest.mark.skipif(not HAS_VLLM, reason="vllm not installed")
def test_active_conversations_are_limited_to_what_the_cache_holds(exam: Exam) -> None:
    """With a cache of 1,024 tokens every dialogue still finds its own prefix cached."""
    engine = open_engine(
        "vllm",
        exam.spec,
        exam.chat,
        batch_size=1,
        engine_args={**vllm_args("vllm", 512), "num_gpu_blocks_override": 32},
    )
    assert engine._num_cache_tokens == 1024
    max_active, started = 0, 0

    def dialogues() -> Iterator[Conversation[list[tuple[Ask, Answer]]]]:
        nonlocal started
        for number in range(NUM_IMAGES):
            started += 1
            yield exam.dialogue(number)

    for num_ended, asked in enumerate(engine.run(dialogues()), start=1):
        max_active = max(max_active, started - num_ended)
        for (_, before), (_, after) in pairwise(asked):
            assert after.num_cached_tokens > before.num_prompt_tokens - 32
    engine.close()
    assert 1 < max_active <= 1024 // 100


@pytest.mark.parametrize("name", ENGINES)
def test_engines_with_an_adapter_agree(
    name: str, exam: Exam, adapter: Path, reference: Engine
) -> None:
    adapted_reference = exam.open("transformers", adapter=adapter, batch_size=1)
    engine = exam.open(name, adapter=adapter)
    changes = []
    for asked in engine.run(exam.dialogue(number) for number in range(NUM_IMAGES)):
        check(asked, adapted_reference)
        for request, got in asked:
            (base,) = reference.run([single(request)])
            changes.append(np.abs(got.option_logprobs - base.option_logprobs).max())
    engine.close()
    adapted_reference.close()
    assert max(changes) > 0.1


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize(
    ("family", "args"),
    [
        ("qwen2.5-vl", {"min_pixels": 28 * 28, "max_pixels": 2 * 28 * 28}),
        ("idefics3", {"size": {"longest_edge": 56}}),
    ],
)
def test_engines_with_fewer_visual_tokens_agree(
    name: str, family: str, args: dict[str, object]
) -> None:
    """Two engines of one process have processors of their own."""
    spec = gallery_spec(family)
    whole, fewer = Exam(spec), Exam(spec.model_copy(update={"processor_args": args}))
    lengths = []
    for exam in (whole, fewer):
        reference, engine = exam.open("transformers", batch_size=1), exam.open(name)
        (asked,) = engine.run([exam.dialogue(0)])
        check(asked, reference)
        lengths.append([answer.num_prompt_tokens for _, answer in asked])
        engine.close()
        reference.close()
    (saved,) = {long - short for long, short in zip(*lengths, strict=True)}
    assert saved > 0


@pytest.mark.parametrize("name", ENGINES)
def test_after_an_engine_is_closed_the_number_of_threads_can_be_set(name: str, exam: Exam) -> None:
    """Workers of a training set it; if that has no effect they wait forever."""
    import torch

    engine = exam.open(name)
    list(engine.run([exam.dialogue(0)]))
    engine.close()
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    assert torch.get_num_threads() == before + 1
    torch.set_num_threads(before)


def test_transformers_takes_no_engine_args(exam: Exam) -> None:
    with pytest.raises(ConfigError, match="takes no engine_args"):
        open_engine(
            "transformers",
            exam.spec,
            exam.chat,
            batch_size=1,
            engine_args={"tensor_parallel_size": 2},
        )
