"""Tiny embedding models with random weights: an image-text model and a text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

SIZE = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


def save_embedder(directory: Path, kind: str, words: Sequence[str]) -> str:
    """Save a model of a kind (clip, siglip or bert) that knows some words; return its path."""
    vocabulary = {word: index for index, word in enumerate(["<pad>", "<unk>", "<eos>", *words])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<eos>",
        model_max_length=8,
    ).save_pretrained(directory)
    torch.manual_seed(0)
    text = SIZE | {"vocab_size": len(vocabulary), "max_position_embeddings": 8}
    vision = SIZE | {"image_size": 16, "patch_size": 8}
    if kind == "bert":
        BertModel(BertConfig(**text)).save_pretrained(directory)
    elif kind == "clip":
        text |= {"eos_token_id": 2, "pad_token_id": 0, "bos_token_id": 2}
        config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
        CLIPModel(config).save_pretrained(directory)
        size = {"height": 16, "width": 16}
        CLIPImageProcessor(size=size, crop_size=size).save_pretrained(directory)
    else:
        config = SiglipConfig(text_config=text, vision_config=vision)
        SiglipModel(config).save_pretrained(directory)
        SiglipImageProcessor(size={"height": 16, "width": 16}).save_pretrained(directory)
    return str(directory)
