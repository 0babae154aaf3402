"""Walking images down the taxonomy: a wave of dialogues that advance level by level together.

Teacher elicitation and the conditioned paradigm of evaluation are this same walk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from PIL import Image

from sekd.data.questions import Question, walk_question
from sekd.data.samples import Dataset, Sample, image_sha256, questions_of, read_image
from sekd.data.shards import Quarantined
from sekd.data.taxonomy import Node, Taxonomy
from sekd.errors import SampleError
from sekd.stages.chat import Chat, Transcript, Turn
from sekd.stages.engines import Answer, Engine, Prompt


@dataclass(frozen=True)
class Picture:
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


def open_pictures(
    dataset: Dataset, samples: Sequence[Sample]
) -> tuple[list[Picture], list[Quarantined]]:
    """Read images and make questions; samples that fail come back with their reason."""
    pictures, failed = [], []
    for sample in samples:
        try:
            image, key = read_image(sample.image), image_sha256(sample.image)
            if key is None:
                raise SampleError(f"{sample.image}: cannot be read")
            pictures.append(Picture(sample, image, key, questions_of(dataset, sample)))
        except SampleError as error:
            failed.append(Quarantined(sample.id, str(error), error.level))
    return pictures, failed


@dataclass
class Dialogue:
    """One image's walk: questions put and answers given so far.

    Attributes:
        transcript: of the whole dialogue, once it has ended.
    """

    picture: Picture
    turn: Turn | None = None
    questions: list[Question] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    transcript: Transcript | None = None

    @property
    def nodes(self) -> list[Node]:
        """The node answered at each level."""
        pairs = zip(self.questions, self.answers, strict=True)
        return [question.options[answer.choice] for question, answer in pairs]


def walk(
    engine: Engine,
    chat: Chat,
    dataset: Dataset,
    pictures: Sequence[Picture],
    *,
    top_k: int,
) -> tuple[list[Dialogue], list[Quarantined]]:
    """Ask every level of every picture, each question below the answers before it."""
    dialogues = [Dialogue(picture) for picture in pictures]
    failed: list[Quarantined] = []
    active = dialogues
    while active:
        asked = []
        for dialogue in active:
            try:
                if _ask(dialogue, chat, dataset):
                    asked.append(dialogue)
            except SampleError as error:
                failed.append(Quarantined(dialogue.picture.sample.id, str(error), error.level))
        answers = engine.answer(
            [dialogue.picture.prompt(_turn(dialogue).token_ids) for dialogue in asked],
            [chat.letter_ids[: len(_turn(dialogue).question.options)] for dialogue in asked],
            top_k=top_k,
        )
        for dialogue, answer in zip(asked, answers, strict=True):
            dialogue.questions.append(_turn(dialogue).question)
            dialogue.answers.append(answer)
        active = asked
    return [dialogue for dialogue in dialogues if dialogue.transcript is not None], failed


def _turn(dialogue: Dialogue) -> Turn:
    assert dialogue.turn is not None
    return dialogue.turn


def _ask(dialogue: Dialogue, chat: Chat, dataset: Dataset) -> bool:
    """Put the next question, or close the dialogue where there is none."""
    question = _next_question(dialogue, dataset)
    if dialogue.turn is None:
        if question is None:
            raise SampleError("there is no level below the root to ask about")
        root = dataset.taxonomy.root
        dialogue.turn = chat.first_turn(question, [root] if root.name else [])
        return True
    last = dialogue.answers[-1].choice
    if question is None:
        dialogue.transcript = chat.close(dialogue.turn, last)
        return False
    dialogue.turn = chat.next_turn(dialogue.turn, last, question)
    return True


def _next_question(dialogue: Dialogue, dataset: Dataset) -> Question | None:
    level = len(dialogue.answers)
    questions = dialogue.picture.questions
    if questions is not None:
        return questions[level] if level < len(questions) else None
    taxonomy, sample = dataset.taxonomy, dialogue.picture.sample
    node = dialogue.nodes[-1] if dialogue.answers else taxonomy.root
    return walk_question(
        taxonomy,
        node,
        sample_id=sample.id,
        seed=dataset.spec.seed,
        truth=_truth(taxonomy, sample, level + 1),
    )


def _truth(taxonomy: Taxonomy, sample: Sample, level: int) -> Node | None:
    path = taxonomy.path(sample.leaf) if sample.leaf else []
    return path[level - 1] if level <= len(path) else None


def in_waves(samples: Sequence[Sample], size: int) -> Iterator[Sequence[Sample]]:
    """Consecutive slices of ``size`` samples."""
    for start in range(0, len(samples), size):
        yield samples[start : start + size]
