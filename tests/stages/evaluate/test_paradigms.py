"""Free replies: the positions of their letters, and the distributions measured there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sekd.config import ElicitSpec, ModelSpec
from sekd.data.samples import Dataset, questions_of
from sekd.engines import Answer, Ask, Conversation, Reply, Write, open_engine, write
from sekd.errors import SampleError
from sekd.models.chat import Chat
from sekd.models.loading import load_processor
from sekd.models.wording import load_wording
from sekd.stages.answers import LetterPosition, LevelAnswer, SampleAnswers
from sekd.stages.evaluate.paradigms import measure_letters, run_paradigm
from sekd.stages.prepare import PreparedSample, prepare_samples, run_conversations


@pytest.fixture
def prepared(seen: Dataset) -> PreparedSample:
    """A sample with the levels order, family, genus and species; both tokenizers know the words."""
    sample = seen.samples[0]
    return PreparedSample(sample, Image.new("RGB", (56, 56)), "key", questions_of(seen, sample))


def joint_answers(
    chat: Chat, dataset: Dataset, prepared: PreparedSample, text: str
) -> SampleAnswers:
    """Return the answers that are parsed from a joint reply of this text."""
    conversation = run_paradigm("joint", chat, dataset, prepared, ElicitSpec())
    next(conversation)
    with pytest.raises(StopIteration) as end:
        conversation.send([Reply(chat.encode(text), 100, 0)])
    answers: SampleAnswers = end.value.value
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
    chat: Chat, seen: Dataset, prepared: PreparedSample, text: str
) -> None:
    """In one of the two tokenizers, "B" behind a space is another token than "B"."""
    answers = joint_answers(chat, seen, prepared, text)
    choices = [answer.choice for answer in answers.levels]
    if text == REPLIES["by number"]:  # the tokenizer of whole words does not know all of it
        assert all(got in (want, None) for got, want in zip(choices, [1, 0, 2, 3], strict=True))
    else:
        assert choices == [1, 0, 2, 3]
    written = chat.encode(text)
    prompt = chat.joint_prompt(prepared.questions or (), seen.taxonomy.root)
    for answer in answers.levels:
        if answer.choice is None:
            continue
        assert answer.letter is not None
        prefix_ids, option_ids = answer.letter.prefix_ids, answer.letter.option_ids
        position = len(prefix_ids) - len(prompt)
        assert prefix_ids == (*prompt, *written[:position])
        assert len(option_ids) == len(answer.question.options)
        assert written[position] == option_ids[answer.choice]
        line = chat.decode(written[:position]).splitlines()[-1]
        assert re.fullmatch(rf" ?({answer.question.rank}|L?{answer.question.level}) ?[:.] ?", line)


@pytest.mark.parametrize("text", ["order: b. x", "order: Z. x", "nothing at all", ""])
def test_a_letter_that_is_no_option_token_has_no_position(
    chat: Chat, seen: Dataset, prepared: PreparedSample, text: str
) -> None:
    """A lower-case letter is an answer, but its token is not one of the options' letters."""
    answers = joint_answers(chat, seen, prepared, text)
    assert all(answer.letter is None for answer in answers.levels)
    assert all(answer.reply == chat.decode(chat.encode(text)) for answer in answers.levels)


def test_replies_by_name_have_no_letters_to_measure(
    tiny_model: Path, seen: Dataset, prepared: PreparedSample, tmp_path: Path
) -> None:
    (tmp_path / "names.yaml").write_text("line: '{rank}: {name}'")
    wording = load_wording(str(tmp_path / "names.yaml"))
    processor = load_processor(ModelSpec(path=str(tiny_model)))
    chat = Chat(processor, subject="organism", wording=wording)
    questions = prepared.questions or ()
    lines = [f"{each.rank}: {each.options[1].name}" for each in questions[:-1]]
    answers = joint_answers(chat, seen, prepared, "\n".join([*lines, "species: order"]))
    assert [answer.choice for answer in answers.levels] == [1, 1, 1, None]
    assert all(answer.letter is None for answer in answers.levels)
    with pytest.raises(StopIteration) as end:
        next(measure_letters(prepared, answers))
    assert end.value.value is answers


def test_a_prompt_that_is_refused_leaves_the_answers_as_they_were(
    chat: Chat, seen: Dataset, prepared: PreparedSample
) -> None:
    answers = joint_answers(chat, seen, prepared, REPLIES["as asked"])
    conversation = measure_letters(prepared, answers)
    letters = [answer.letter for answer in answers.levels if answer.letter]
    assert len(next(conversation)) == len(letters) > 0
    with pytest.raises(StopIteration) as end:
        conversation.throw(SampleError("too long"))
    assert end.value.value == answers


def test_a_measurement_belongs_to_the_level_of_its_letter(
    words: Chat, seen: Dataset, prepared: PreparedSample
) -> None:
    answers = joint_answers(words, seen, prepared, "order: B. x\nspecies: D. z")
    assert [answer.letter is not None for answer in answers.levels] == [True, False, False, True]
    conversation = measure_letters(prepared, answers)
    next(conversation)
    first, last = (np.full(4, value, dtype=np.float32) for value in (-1, -2))
    with pytest.raises(StopIteration) as end:
        conversation.send([Answer(0, first, 10, 0), Answer(0, last, 10, 0)])
    measured: SampleAnswers = end.value.value
    logprobs = [answer.mean_logprobs for answer in measured.levels]
    assert logprobs[0] is first
    assert logprobs[1:3] == [None, None]
    assert logprobs[3] is last
    assert [answer.choice for answer in measured.levels] == [1, None, None, 3]


def test_the_greedy_letter_is_the_most_probable_one(
    tiny_model: Path, words: Chat, seen: Dataset
) -> None:
    """The measured distribution is the one that the reply was written from. The tiny base does not
    keep to the form by itself, so it continues the beginning of a line."""
    spec = ModelSpec(path=str(tiny_model), dtype="float32")
    engine = open_engine("transformers", spec, words, batch_size=8, engine_args={})

    def converse(prepared: PreparedSample) -> Conversation[tuple[Reply, LevelAnswer]]:
        question, *_ = questions = prepared.questions or ()
        prompt = words.joint_prompt(questions, seen.taxonomy.root)
        prefix_ids = (*prompt, *words.encode(f"{question.rank}:"))
        reply = yield from write(Write(prepared.prompt(prefix_ids), 1, words.end_ids[0]))
        letter_ids = words.joint_letter_ids(question)[: len(question.options)]
        answer = LevelAnswer(question, 0, letter=LetterPosition(prefix_ids, letter_ids))
        answers = SampleAnswers(prepared.sample.id, (answer,))
        measured = yield from measure_letters(prepared, answers)
        return reply, measured.levels[0]

    outcomes: list[Any] = list(
        run_conversations(engine, prepare_samples(seen, seen.samples), converse)
    )
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


def test_a_forced_reply_asks_for_each_letter_behind_the_models_own_lines(
    words: Chat, seen: Dataset, prepared: PreparedSample
) -> None:
    questions = prepared.questions or ()
    chosen = [1, 0, 3, 2]
    conversation = run_paradigm("joint_forced", words, seen, prepared, ElicitSpec())
    requests = next(conversation)
    asked = []
    for choice in chosen:
        (request,) = requests
        assert isinstance(request, Ask)
        asked.append(request)
        logprobs = np.full(len(request.option_ids), -5.0, np.float32)
        logprobs[choice] = -0.1
        response = Answer(choice, logprobs, num_prompt_tokens=9, num_cached_tokens=0)
        try:
            requests = conversation.send([response])
        except StopIteration as end:
            answers: SampleAnswers = end.value
    transcript = words.joint_transcript(questions, chosen, seen.taxonomy.root)
    for request, position, choice in zip(asked, transcript.positions, chosen, strict=True):
        # What the student learns to write: the same tokens before, and the chosen letter there.
        assert request.prompt.token_ids == transcript.token_ids[:position]
        assert request.option_ids[choice] == transcript.token_ids[position]
    assert [level.choice for level in answers.levels] == chosen
    assert [level.node for level in answers.levels] == [
        question.options[choice] for question, choice in zip(questions, chosen, strict=True)
    ]
