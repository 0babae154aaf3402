"""Every family of the gallery can be had as a user has it: a directory, and the Auto classes."""

from __future__ import annotations

import importlib.util
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

MAX_MEGABYTES = 5


def save(family: Family, folder: Path, layout: Layout = "chat_template.jinja") -> Path:
    """The family's directory; skips where a package that it is built from is not installed."""
    if family.name == "smolvlm" and importlib.util.find_spec("num2words") is None:
        pytest.skip("num2words not installed")
    try:
        return family.save(folder, layout)
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family_loads_and_sees_its_image(family: Family, tmp_path: Path) -> None:
    folder = save(family, tmp_path)
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


@pytest.mark.parametrize(
    "layout", ["chat_template.jinja", "chat_template.json", "tokenizer_config.json"]
)
def test_the_template_lies_where_the_layout_says(layout: Layout, tmp_path: Path) -> None:
    family = next(family for family in FAMILIES if family.name == "qwen2.5-vl")
    folder = save(family, tmp_path, layout)
    files = [
        file.name for file in folder.iterdir() if "im_start" in file.read_text("utf-8", "ignore")
    ]
    assert layout in files
    tokenizer = AutoProcessor.from_pretrained(folder).tokenizer
    assert (tokenizer.chat_template is None) == (layout == "chat_template.json")
