"""Every family of the gallery can be had as a user has it: a directory, and the Auto classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torchvision", exc_type=RuntimeError)

import torch
from gallery_families import FAMILIES
from gallery_parts import Family, Layout
from gallery_templates import turn
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from sekd.data.questions import Question
from sekd.data.taxonomy import Taxonomy
from sekd.models.chat import Chat
from sekd.models.prompts import single_question
from sekd.models.template import TODAY

MAX_MEGABYTES = 5


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.name)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    family: Family = request.param
    return family.save(tmp_path_factory.mktemp(family.name))


def test_a_family_loads_and_sees_its_image(folder: Path) -> None:
    assert sum(file.stat().st_size for file in folder.iterdir()) < MAX_MEGABYTES * 1e6
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    text = processor.apply_chat_template(
        [turn("user", "What is the class?\nA. aves\nB. fish", image=True)],
        tokenize=False,
        add_generation_prompt=True,
    )
    rng = np.random.default_rng(0)
    logits = []
    for _ in range(2):
        image = Image.fromarray(rng.integers(0, 255, (60, 90, 3), dtype=np.uint8))
        inputs = processor(text=[text], images=[image], return_tensors="pt").to(torch.float32)
        inputs.pop("labels", None)  # PaliGemma's, with which it would compute a loss
        with torch.inference_mode():
            logits.append(model(**inputs).logits[0, -1])
    assert torch.isfinite(torch.stack(logits)).all()
    assert (logits[0] - logits[1]).abs().max() > 1e-3


@pytest.mark.parametrize("with_image", [True, False], ids=["image", "blind"])
def test_a_familys_processor_carries_a_dialogue(
    folder: Path, questions: list[Question], taxonomy: Taxonomy, with_image: bool
) -> None:
    """The prompt is what transformers renders; the dialogue goes on from it."""
    processor = AutoProcessor.from_pretrained(folder)
    chat = Chat(processor, subject="organism", with_image=with_image)
    message = turn("user", single_question(questions[0], [], "organism"), image=with_image)
    rendered = processor.apply_chat_template(
        [message], tokenize=False, add_generation_prompt=True, strftime_now=TODAY.strftime
    )
    first = chat.first_turn(questions[0], [])
    assert first.text.startswith(rendered.rstrip(" "))
    following = chat.next_turn(first, 1, questions[1])
    assert following.token_ids[: len(first.token_ids)] == first.token_ids
    transcript = chat.close(following, 0)
    assert [transcript.token_ids[place] for place in transcript.positions] == [
        chat.letter_ids[1],
        chat.letter_ids[0],
    ]
    joint = chat.joint_transcript(questions, [0, 1, 0], taxonomy.root)
    prompt = chat.joint_prompt(questions, taxonomy.root)
    assert joint.token_ids[: len(prompt)] == prompt


@pytest.mark.parametrize(
    "layout", ["chat_template.jinja", "chat_template.json", "tokenizer_config.json"]
)
def test_the_template_lies_where_the_layout_says(layout: Layout, tmp_path: Path) -> None:
    family = next(family for family in FAMILIES if family.name == "qwen2.5-vl")
    folder = family.save(tmp_path, layout)
    files = [
        file.name for file in folder.iterdir() if "im_start" in file.read_text("utf-8", "ignore")
    ]
    assert layout in files
    tokenizer = AutoProcessor.from_pretrained(folder).tokenizer
    assert (tokenizer.chat_template is None) == (layout == "chat_template.json")
