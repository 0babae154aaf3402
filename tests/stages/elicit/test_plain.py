"""Replies to plain prompts: a share of the images is asked, and they are stored last."""

from __future__ import annotations

from pathlib import Path

import pytest

from sekd.config import RunConfig, load_config
from sekd.data import signals, toyworld
from sekd.data.samples import Dataset
from sekd.data.shards import Shard
from sekd.data.signals import TeacherSample, TeacherShard
from sekd.engines import Reply
from sekd.models import loading
from sekd.models.chat import Chat
from sekd.stages.elicit.answers import AnswersWorker
from sekd.stages.elicit.states import StatesWorker
from sekd.stages.inspect import view_sample
from sekd.stages.prepare import PreparedSample, prepare_samples
from sekd.stages.walk import reply_plainly

CAPTION = "Describe the organism in the image."
NUM_SAMPLES = 20


def config_of(world: Path, **plain: object) -> RunConfig:
    overrides = [f"elicit.plain.{name}={value}" for name, value in plain.items()]
    return load_config(world / "config.yaml", overrides)


def elicit(config: RunConfig, folder: Path) -> tuple[TeacherShard, tuple[Path, ...], Shard]:
    dataset = Dataset.load("train", config.data["train"])
    shard = Shard(0, tuple(sample.id for sample in dataset.samples[:NUM_SAMPLES]))
    files = AnswersWorker(config, dataset).process(shard, folder, lambda _: None).files
    pair = (files[signals.TRANSCRIPTS], files[signals.ANSWERS])
    return TeacherShard(*pair), pair, shard


def replies(config: RunConfig, sample: TeacherSample) -> list[str]:
    chat = Chat(loading.load_processor(config.model), subject="organism")
    return [
        chat.decode(
            [
                token_id
                for token_id, is_target in zip(
                    transcript.token_ids, transcript.is_target, strict=True
                )
                if is_target
            ]
        )
        for transcript in sample.transcripts[1:]
    ]


def test_the_teacher_replies_freely(world: Path, tmp_path: Path) -> None:
    config = config_of(world, share=1.0, prompts=f"[{CAPTION}]")
    samples, pair, shard = elicit(config, tmp_path)
    num_right = 0
    for sample in samples:
        (reply,) = replies(config, sample)
        rank, _, name = reply.partition(" : ")  # one name of the path, of any rank
        assert rank in toyworld.RANKS
        num_right += name in (sample.answers[-1].truth or "")
        assert sample.transcripts[1].is_target[-1]  # it writes the end of its turn itself
        assert {answer.transcript for answer in sample.answers} == {0}
    assert num_right > NUM_SAMPLES / 2  # such captions are what the tiny model was trained on
    assert samples.with_plain_replies() == set(samples.sample_ids)
    # The state pass and sekd inspect use only the dialogue.
    result = StatesWorker(config, {0: pair}).process(shard, tmp_path, lambda _: None)
    assert result.num_done == NUM_SAMPLES
    assert len(view_sample(samples[0], None, str).turns) == 4


def test_a_share_of_the_images_is_asked(world: Path, tmp_path: Path) -> None:
    samples, _, _ = elicit(config_of(world, share=0.3), tmp_path)
    chosen = samples.with_plain_replies()
    assert 1 <= len(chosen) < NUM_SAMPLES / 2
    assert chosen == {sample.sample_id for sample in samples if len(sample.transcripts) == 2}


@pytest.mark.parametrize("plain", [{"share": 0.0}, {"prompts": "[]"}])
def test_no_image_is_asked_without_a_share_or_prompts(
    world: Path, tmp_path: Path, plain: dict[str, object]
) -> None:
    samples, _, _ = elicit(config_of(world, **plain), tmp_path)
    assert samples.with_plain_replies() == set()


def test_a_long_reply_is_cut_without_an_end(world: Path, tmp_path: Path) -> None:
    config = config_of(world, share=1.0, prompts=f"[{CAPTION}]", max_new_tokens=3)
    samples, _, _ = elicit(config, tmp_path)
    assert sum(samples[0].transcripts[1].is_target) == 3


def test_a_reply_is_cut_before_a_special_token(world: Path, tmp_path: Path) -> None:
    """An image placeholder in a transcript would need another image."""
    config = config_of(world, share=1.0, prompts=f"[{CAPTION}]")
    dataset = Dataset.load("train", config.data["train"])
    chat = Chat(loading.load_processor(config.model), subject="organism")
    (prepared,) = prepare_samples(dataset, dataset.samples[:1])
    assert isinstance(prepared, PreparedSample)
    conversation = reply_plainly(chat, prepared, config.elicit.plain)
    (request,) = next(conversation)
    word, placeholder = chat.encode("order")[0], chat.image_prefix_ids[-1]
    with pytest.raises(StopIteration) as ended:
        conversation.send([Reply((word, word, placeholder, word), 0, 0)])
    (transcript,) = ended.value.value
    assert transcript.token_ids == (*request.prompt.token_ids, word, word)
