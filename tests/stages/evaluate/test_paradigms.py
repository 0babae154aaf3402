"""Where the letters of a free reply are, and what is measured there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sekd.config import ElicitSpec, ModelSpec
from sekd.data.samples import Dataset, questions_of
from sekd.engines import Conversation, Reply, Write, open_engine, write
from sekd.errors import SampleError
from sekd.models.chat import Chat
from sekd.stages.evaluate.paradigms import (
    LetterPosition,
    LevelAnswer,
    measure_letters,
    run_paradigm,
)
from sekd.stages.walk import PreparedSample, prepare_samples


@pytest.fixture
def picture(seen: Dataset) -> PreparedSample:
    """Levels order, family, genus, species; both tokenizers know the words."""
    sample = seen.samples[0]
    return PreparedSample(sample, Image.new("RGB", (56, 56)), "key", questions_of(seen, sample))


def joint_answers(
    chat: Chat, dataset: Dataset, picture: PreparedSample, text: str
) -> list[LevelAnswer]:
    """What is made of a joint reply of this text."""
    talk = run_paradigm("joint", chat, dataset, picture, ElicitSpec())
    next(talk)
    with pytest.raises(StopIteration) as end:
        talk.send([Reply(chat.encode(text), 100, 0)])
    answers: list[LevelAnswer] = end.value.value
    return answers


REPLIES = {
    "as asked": "order: B. x\nfamily: A. y\ngenus: C. z\nspecies: D. z",
    "by number": "L1: B\nL2: A\n3. C\n4. D",
    "with a preface": "order and family:\norder: B. x\n\nfamily: A. y\ngenus: C\nspecies: D. A",
    "with other letters": "A. B. C. D\norder: B. x\nfamily: A. y\ngenus: C. z\nspecies: D. z",
    "twice alike": "order: B. x\norder: B. x\nfamily: A. y\ngenus: C. z\nspecies: D. z",
}


@pytest.mark.parametrize("text", REPLIES.values(), ids=REPLIES)
def test_letters_are_found_among_the_tokens(
    chat: Chat, seen: Dataset, picture: PreparedSample, text: str
) -> None:
    """By both tokenizers: for one of them "B" behind a space is another token than "B"."""
    answers = joint_answers(chat, seen, picture, text)
    read = [answer.choice for answer in answers]
    if text == REPLIES["by number"]:  # the tokenizer of whole words does not know all of it
        assert all(got in (want, None) for got, want in zip(read, [1, 0, 2, 3], strict=True))
    else:
        assert read == [1, 0, 2, 3]
    written = chat.encode(text)
    prompt = chat.joint_prompt(picture.questions or (), seen.taxonomy.root)
    for answer in answers:
        if answer.choice is None:
            continue
        assert answer.letter is not None
        before, option_ids = answer.letter.before, answer.letter.option_ids
        place = len(before) - len(prompt)
        assert before == (*prompt, *written[:place])
        assert len(option_ids) == len(answer.question.options)
        assert written[place] == option_ids[answer.choice]
        line = chat.decode(written[:place]).splitlines()[-1]
        assert re.fullmatch(rf" ?({answer.question.rank}|L?{answer.question.level}) ?[:.] ?", line)


@pytest.mark.parametrize("text", ["order: b. x", "order: Z. x", "nothing at all", ""])
def test_letters_that_are_not_there_stay_unknown(
    chat: Chat, seen: Dataset, picture: PreparedSample, text: str
) -> None:
    """A small letter is an answer, but its token is not one of the options' letters."""
    answers = joint_answers(chat, seen, picture, text)
    assert all(answer.letter is None for answer in answers)
    assert all(answer.reply == chat.decode(chat.encode(text)) for answer in answers)


def test_a_prompt_that_is_refused_leaves_the_answers_as_they_were(
    chat: Chat, seen: Dataset, picture: PreparedSample
) -> None:
    answers = joint_answers(chat, seen, picture, REPLIES["as asked"])
    talk = measure_letters(picture, answers)
    assert len(next(talk)) == len([answer for answer in answers if answer.letter]) > 0
    with pytest.raises(StopIteration) as end:
        talk.throw(SampleError("too long"))
    assert end.value.value == answers


def test_the_greedy_letter_is_the_most_probable_one(
    tiny_model: Path, words: Chat, seen: Dataset
) -> None:
    """What is measured is what the reply was written from. The tiny base does not keep to the form
    by itself, so it goes on from a line's beginning."""
    spec = ModelSpec(path=str(tiny_model), dtype="float32")
    engine = open_engine("transformers", spec, words, batch_size=8, engine_args={})

    def talk(picture: PreparedSample) -> Conversation[tuple[Reply, LevelAnswer]]:
        question, *_ = questions = picture.questions or ()
        before = words.joint_prompt(questions, seen.taxonomy.root)
        before = (*before, *words.encode(f"{question.rank}:"))
        reply = yield from write(Write(picture.prompt(before), 1, words.end_ids[0]))
        letters = words.joint_letter_ids(question)[: len(question.options)]
        given = LevelAnswer(question, 0, letter=LetterPosition(before, letters))
        (measured,) = yield from measure_letters(picture, [given])
        return reply, measured

    outcomes = list(engine.run(talk(each) for each in prepare_samples(seen, seen.samples, [])))
    engine.close()
    num_letters = 0
    for reply, measured in outcomes:
        assert measured.letter is not None
        assert measured.option_logprobs is not None
        assert len(measured.option_logprobs) == len(measured.question.options)
        if reply.token_ids[0] in measured.letter.option_ids:
            num_letters += 1
            best = int(np.argmax(measured.option_logprobs))
            assert measured.letter.option_ids[best] == reply.token_ids[0]
    assert num_letters
