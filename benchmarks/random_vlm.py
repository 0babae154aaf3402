"""Write a random vision-language model large enough that tokens cost time, and a dataset for it.

The model is of the Qwen2.5-VL family with its real vocabulary size; an image takes 400 tokens, and
the taxonomy has six levels of up to four options.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

NUM_LEVELS = 6
IMAGE_SIZE = 560  # 20 x 20 merged patches of 28 pixels
NUM_IMAGE_TOKENS = (IMAGE_SIZE // 28) ** 2
HIDDEN_SIZE = 384
VOCABULARY, SMALL_VOCABULARY = 151_936, 32_768
IM_END = "<|im_end|>"
SPECIAL_TOKENS = [
    "<|im_start|>",
    IM_END,
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]


@dataclass(frozen=True)
class Shape:
    """The sizes of a model of the Qwen2.5-VL family.

    Attributes:
        weight_scale: factor of the weights at the end of each block. Answers of random weights
            hardly differ between questions; scaled weights make them differ.
    """

    text: dict[str, Any]
    vision: dict[str, Any]
    dtype: torch.dtype = torch.float32
    weight_scale: float = 8.0


SMALL = Shape(
    text={
        "hidden_size": HIDDEN_SIZE,
        "intermediate_size": 1536,
        "num_hidden_layers": 8,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "mrope_section": [8, 12, 12]},
    },
    vision={
        "depth": 4,
        "hidden_size": 192,
        "intermediate_size": 512,
        "num_heads": 6,
        "out_hidden_size": HIDDEN_SIZE,
        "fullatt_block_indexes": [3],
    },
)
"""A model for two CPU cores, whose tokens still cost time."""
QWEN_7B = Shape(
    text={
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": False,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": [16, 24, 24],
        },
    },
    vision={
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 3584,
        "fullatt_block_indexes": [7, 15, 23, 31],
    },
    dtype=torch.bfloat16,
    weight_scale=1.0,
)
"""The published sizes of Qwen2.5-VL-7B."""


def write_world(folder: Path, num_images: int, image_size: int = IMAGE_SIZE) -> None:
    """Write images of noise, a taxonomy of made-up names and two random models."""
    rng = random.Random(0)
    syllables = [a + b for a in "bcdfghlmnprstv" for b in ("a", "e", "i", "o", "us", "ia", "or")]
    paths: dict[str, list[str]] = {}

    def make_name() -> str:
        return "".join(rng.choice(syllables) for _ in range(4))

    def grow(path: list[str]) -> None:
        if len(path) == NUM_LEVELS + 1:
            paths[path[-1]] = path
            return
        for _ in range(4 if len(path) < 3 else 2):
            grow([*path, make_name()])

    grow([make_name()])
    (folder / "taxonomy.json").write_text(json.dumps(paths), encoding="utf-8")
    leaves = list(paths)
    write_images(folder / "images", num_images, image_size)
    rows = [f"images/{number}.png,{rng.choice(leaves)}" for number in range(num_images)]
    (folder / "table.csv").write_text("\n".join(["image,label", *rows]), encoding="utf-8")
    names = [name for path in paths.values() for name in path]
    for size in (VOCABULARY, SMALL_VOCABULARY):
        write_model(folder / f"model-{size}", names, size, image_size)


def write_images(folder: Path, num_images: int, image_size: int) -> None:
    """Write images of noise as 0.png, 1.png and so on."""
    noise = np.random.default_rng(0)
    folder.mkdir()
    for number in range(num_images):
        small = noise.integers(0, 255, (20, 20, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((image_size, image_size), Image.Resampling.BICUBIC)
        image.save(folder / f"{number}.png")


def train_tokenizer(names: Sequence[str]) -> hf.PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    words = "Given the image and the known facts, answer with the letter of the right option: what"
    letters = " A B C D E F G H I J K L M N O P Q R S T U V W X Y Z"  # each one token
    corpus = [*names, *[f"{words} is the level 1 of the organism? None\nA. B. C. D.{letters}"] * 50]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=1500, special_tokens=SPECIAL_TOKENS, initial_alphabet=alphabet
        ),
    )
    return hf.PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=IM_END, pad_token=IM_END)


def write_model(
    folder: Path, names: Sequence[str], vocabulary: int, image_size: int, shape: Shape = SMALL
) -> None:
    """Write a random model and its processor; ``names`` train the tokenizer."""
    tokenizer = train_tokenizer(names)
    ids = tokenizer.convert_tokens_to_ids(SPECIAL_TOKENS)
    config = hf.Qwen2_5_VLConfig(
        text_config={**shape.text, "vocab_size": vocabulary},
        vision_config=shape.vision,
        vision_start_token_id=ids[2],
        vision_end_token_id=ids[3],
        image_token_id=ids[4],
        video_token_id=ids[5],
        tie_word_embeddings=shape.text["tie_word_embeddings"],
    )
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = hf.AutoModelForImageTextToText.from_config(config, dtype=shape.dtype)
    for block in model.model.language_model.layers:
        block.self_attn.o_proj.weight.data *= shape.weight_scale
        block.mlp.down_proj.weight.data *= shape.weight_scale
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    processor = hf.Qwen2_5_VLProcessor(
        hf.Qwen2VLImageProcessor(min_pixels=image_size**2, max_pixels=image_size**2),
        tokenizer,
        hf.Qwen2VLVideoProcessor(),
        chat_template=(
            "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for p in m['content'] %}"
            f"{{% if p['type'] == 'image' %}}{image}{{% else %}}{{{{ p['text'] }}}}{{% endif %}}"
            "{% endfor %}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
        ),
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
