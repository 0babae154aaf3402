"""Walking images down the taxonomy, one question at a time.

Teacher elicitation and the conditioned paradigm of evaluation are this same walk.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sekd.config import ElicitSpec, PlainSpec
from sekd.data.images import image_sha256, read_image
from sekd.data.questions import Question, walk_question
from sekd.data.samples import Dataset, Sample, questions_of
from sekd.data.shards import Quarantined
from sekd.data.taxonomy import Node, Taxonomy
from sekd.engines import Answer, Ask, Conversation, Prompt, Write, ask, write
from sekd.engines.base import Result
from sekd.errors import SampleError
from sekd.models.chat import Chat, DialogueTurn, Transcript

_IMAGES_AHEAD = 16
"""Images that are read while the engine is at others."""


@dataclass(frozen=True)
class PreparedSample:
    """A sample with its image read and its questions made.

    Attributes:
        image_key: SHA-256 of the image file.
        questions: level by level, or ``None`` where they follow from the answers (``walk``).
    """

    sample: Sample
    image: Image.Image
    image_key: str
    questions: Sequence[Question] | None

    def prompt(self, token_ids: tuple[int, ...]) -> Prompt:
        """These token ids with this image."""
        return Prompt(token_ids, self.image, self.image_key)


def prepare_samples(
    dataset: Dataset, samples: Sequence[Sample], unusable: list[Quarantined]
) -> Iterator[PreparedSample]:
    """Read images and make questions, some ahead of use; what fails goes to ``unusable``."""
    with ThreadPoolExecutor() as threads:
        opened: deque[Future[PreparedSample | Quarantined]] = deque()
        for sample in samples:
            opened.append(threads.submit(_open, dataset, sample))
            if len(opened) > _IMAGES_AHEAD:
                yield from _usable(opened.popleft(), unusable)
        while opened:
            yield from _usable(opened.popleft(), unusable)


def _open(dataset: Dataset, sample: Sample) -> PreparedSample | Quarantined:
    try:
        image, key = read_image(sample.image), image_sha256(sample.image)
        if key is None:
            raise SampleError(f"{sample.image}: cannot be read")
        return PreparedSample(sample, image, key, questions_of(dataset, sample))
    except SampleError as error:
        return Quarantined(sample.id, str(error), error.level)


def _usable(
    opened: Future[PreparedSample | Quarantined], unusable: list[Quarantined]
) -> Iterator[PreparedSample]:
    picture = opened.result()
    if isinstance(picture, PreparedSample):
        yield picture
    else:
        unusable.append(picture)


def quarantine_errors(
    picture: PreparedSample, conversation: Conversation[Result]
) -> Conversation[Result | Quarantined]:
    """A conversation that sets its sample aside where it would raise a ``SampleError``."""
    try:
        return (yield from conversation)
    except SampleError as error:
        return Quarantined(picture.sample.id, str(error), error.level)


@dataclass(frozen=True)
class WalkStep:
    """One question and its answer.

    Attributes:
        choice: index of the answer among the options.
        option_logprobs: float32 [num_options], over the whole vocabulary, with the options as shown
            in the transcript.
        mean_logprobs: the same, log of the mean probability over all orders that were asked.
        num_prompt_tokens, num_cached_tokens: over all those orders.
    """

    question: Question
    choice: int
    option_logprobs: NDArray[np.float32]
    mean_logprobs: NDArray[np.float32]
    num_prompt_tokens: int
    num_cached_tokens: int

    @property
    def node(self) -> Node:
        """The node that was answered."""
        return self.question.options[self.choice]


@dataclass(frozen=True)
class Dialogue:
    """One image's walk to its end.

    Attributes:
        transcripts: one of the whole dialogue, or in the ``facts`` style one per level; then
            those of replies to plain prompts, which hold no answer.
    """

    picture: PreparedSample
    steps: tuple[WalkStep, ...]
    transcripts: tuple[Transcript, ...]


def walk(
    chat: Chat, dataset: Dataset, picture: PreparedSample, spec: ElicitSpec
) -> Conversation[Dialogue]:
    """Ask every level of a picture, each question below the answers before it.

    Raises:
        SampleError: if there is nothing to ask, or a question cannot be put.
    """
    steps: list[WalkStep] = []
    transcripts: list[Transcript] = []
    root = dataset.taxonomy.root
    facts = [root] if root.name else []
    turn: DialogueTurn | None = None
    while (question := _next_question(dataset, picture, steps)) is not None:
        if turn is not None and spec.style == "facts":
            transcripts.append(chat.close(turn, steps[-1].choice))
            turn = None
        turns = [
            chat.first_turn(order, [*facts, *(step.node for step in steps)])
            if turn is None
            else chat.next_turn(turn, steps[-1].choice, order)
            for order in _orders(question, spec.permutations)
        ]
        answers = yield from ask(
            [
                Ask(picture.prompt(each.token_ids), chat.letter_ids[: len(question.options)])
                for each in turns
            ]
        )
        turn = turns[0]
        steps.append(_step(turns, answers))
    if turn is None:
        raise SampleError("there is no level below the root to ask about")
    transcripts.append(chat.close(turn, steps[-1].choice))
    return Dialogue(picture, tuple(steps), tuple(transcripts))


def reply_plainly(
    chat: Chat, picture: PreparedSample, spec: PlainSpec
) -> Conversation[tuple[Transcript, ...]]:
    """What the teacher says to a plain prompt, for a share of the pictures chosen by their ids."""
    rng = random.Random(f"plain:{picture.sample.id}")
    if not spec.prompts or rng.random() >= spec.share:
        return ()
    asked = Transcript().with_context(chat.plain_prompt(rng.choice(spec.prompts)))
    reply = yield from write(
        Write(picture.prompt(asked.token_ids), spec.max_new_tokens, chat.end_ids[0])
    )
    # What stands for an image, or ends a turn, cannot be said again as a word.
    words = tuple(takewhile(lambda token: token not in chat.special_ids, reply.token_ids))
    is_cut = len(words) < len(reply.token_ids) or len(words) == spec.max_new_tokens
    said = (*words, *(() if is_cut else chat.end_ids))
    return (asked.with_target(said),) if said else ()


def _orders(question: Question, num_orders: int) -> list[Question]:
    """The question as it is, and with its options rotated by even steps."""
    options = question.options
    num_orders = min(num_orders, len(options))
    shifts = [index * len(options) // num_orders for index in range(num_orders)]
    return [replace(question, options=(*options[by:], *options[:by])) for by in shifts]


def _step(turns: Sequence[DialogueTurn], answers: Sequence[Answer]) -> WalkStep:
    question = turns[0].question
    by_node: dict[Node, list[float]] = {node: [] for node in question.options}
    for turn, answer in zip(turns, answers, strict=True):
        for node, logprob in zip(turn.question.options, answer.option_logprobs, strict=True):
            by_node[node].append(float(logprob))
    mean_logprobs = np.logaddexp.reduce(np.array(list(by_node.values())), axis=1)
    mean_logprobs = (mean_logprobs - np.log(len(turns))).astype(np.float32)
    return WalkStep(
        question=question,
        choice=int(mean_logprobs.argmax()),
        option_logprobs=answers[0].option_logprobs,
        mean_logprobs=mean_logprobs if len(turns) > 1 else answers[0].option_logprobs,
        num_prompt_tokens=sum(answer.num_prompt_tokens for answer in answers),
        num_cached_tokens=sum(answer.num_cached_tokens for answer in answers),
    )


def _next_question(
    dataset: Dataset, picture: PreparedSample, steps: Sequence[WalkStep]
) -> Question | None:
    level = len(steps)
    if picture.questions is not None:
        return picture.questions[level] if level < len(picture.questions) else None
    taxonomy, sample = dataset.taxonomy, picture.sample
    return walk_question(
        taxonomy,
        steps[-1].node if steps else taxonomy.root,
        sample_id=sample.id,
        seed=dataset.spec.seed,
        truth=_truth(taxonomy, sample, level + 1),
    )


def _truth(taxonomy: Taxonomy, sample: Sample, level: int) -> Node | None:
    path = taxonomy.path(sample.leaf) if sample.leaf else []
    return path[level - 1] if level <= len(path) else None
