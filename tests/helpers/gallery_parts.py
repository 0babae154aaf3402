"""What the builders of tiny model families share: sizes, parts of configs, and how one is saved."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import transformers as hf
from gallery_templates import VisionTemplate, vision_template, with_placeholder
from safetensors.torch import load_file, save_file
from torch import nn

NUM_TOKENS = 2500
"""Tokens kept of a real vocabulary: each letter A to Z is one of them, with and without a space."""

HIDDEN = 64
TEXT = {
    "hidden_size": HIDDEN,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,  # of 32: vLLM on a CPU takes no smaller ones
    "num_key_value_heads": 1,
    "max_position_embeddings": 8192,
}
"""What most language models' configs ask for."""
HEAD_DIM = 32

VISION = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "image_size": 56,
    "patch_size": 14,
}
"""The same for most vision towers."""

SIGLIP = VISION | {"model_type": "siglip_vision_model", "vision_use_head": False}
CLIP = VISION | {"model_type": "clip_vision_model"}

Layout = Literal["chat_template.jinja", "chat_template.json", "tokenizer_config.json"]
Built = tuple[hf.PreTrainedModel, Any]


@dataclass(frozen=True)
class Family:
    """A family of vision-language models, as a tiny random member of it.

    Attributes:
        name: as people call it; the model type in transformers may be another.
        build: makes the model and its processor, which has no chat template yet.
        template: the real chat template it comes with, by its name in the gallery.
        image: where no installed package ships the family's own template, the placeholder that
            replaces that of ``template``, which then is one of a related family.
    """

    name: str
    build: Callable[[], Built]
    template: str
    image: str | None = None

    @property
    def chat_template(self) -> str:
        """The Jinja source."""
        template: VisionTemplate = vision_template(self.template)
        return template.text if self.image is None else with_placeholder(template, self.image)

    def save(self, folder: Path, layout: Layout = "chat_template.jinja") -> Path:
        """Write the model as it would come from the hub.

        Args:
            layout: the file that holds the chat template. Models of before 2025 have it in
                ``chat_template.json``; some have it in ``tokenizer_config.json`` alone.
        """
        torch.manual_seed(0)
        model, processor = self.build()
        _enlarge_weights(model)
        model.eval().save_pretrained(folder)
        _use_names_of_the_hub(folder, model)
        if layout == "tokenizer_config.json":
            processor.chat_template = None
            processor.tokenizer.chat_template = self.chat_template
        else:
            processor.chat_template = self.chat_template
        processor.save_pretrained(folder)
        _move_template(folder, layout)
        return folder


def text_config(model_type: str, tokenizer: Any, **others: Any) -> dict[str, Any]:
    """A language model's config over the tokenizer's vocabulary."""
    return {
        **TEXT,
        "model_type": model_type,
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **others,
    }


@torch.no_grad()
def _enlarge_weights(model: nn.Module) -> None:
    """Make the image and every earlier token matter.

    Fresh weights are so small that all answers are alike, and gates (of Mllama's cross attention)
    are closed.
    """
    embeddings = {id(model.get_input_embeddings().weight)}
    if model.get_output_embeddings() is not None:
        embeddings.add(id(model.get_output_embeddings().weight))
    for name, weights in model.named_parameters():
        if id(weights) in embeddings:
            weights.mul_(2)
        elif "gate" in name and weights.numel() == 1:
            weights.fill_(0.5)
        elif weights.dim() > 1 and not weights.any():  # Gemma's projection begins with zeros
            weights.normal_(0, 0.1)
        elif weights.dim() > 1:
            weights.mul_(6)


def _use_names_of_the_hub(folder: Path, model: hf.PreTrainedModel) -> None:
    """Name the vision tower's weights as checkpoints do.

    transformers 5 leaves ``vision_model`` out of the names that it saves, and reads both.
    """
    if model.config.vision_config.model_type not in ("siglip_vision_model", "clip_vision_model"):
        return
    file = folder / "model.safetensors"
    tower = re.compile(r"^((?:model\.)?vision_tower\.)(?!vision_model\.)")
    weights = {tower.sub(r"\1vision_model.", name): w for name, w in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})


def _move_template(folder: Path, layout: Layout) -> None:
    """Put the template where older versions of transformers wrote it."""
    file = folder / "chat_template.jinja"
    if layout == "chat_template.jinja" or not file.is_file():
        return
    text = file.read_text("utf-8")
    file.unlink()
    if layout == "chat_template.json":
        content: dict[str, Any] = {}
        target = folder / "chat_template.json"
    else:
        target = folder / "tokenizer_config.json"
        content = json.loads(target.read_text("utf-8"))
    target.write_text(json.dumps(content | {"chat_template": text}), encoding="utf-8")
