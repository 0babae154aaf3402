"""Families with ways of their own: Gemma, PaliGemma, Llama's vision models, DeepSeek-VL, Aria."""

from __future__ import annotations

from typing import Any

import transformers as hf
from gallery_families_native import qwen_tokenizer
from gallery_parts import (
    HEAD_DIM,
    HIDDEN,
    NUM_TOKENS,
    SIGLIP,
    VISION,
    Built,
    Family,
    text_config,
)
from gallery_tokenizers import build_tokenizer

SIDE = VISION["image_size"]
SQUARE = {"height": SIDE, "width": SIDE}
NUM_PATCHES = (SIDE // VISION["patch_size"]) ** 2


def _gemma_tokenizer(*special: str, **named: str) -> hf.PreTrainedTokenizerFast:
    """SentencePiece without a space in front, as Gemma's; the vocabulary is Mistral's."""
    return build_tokenizer(
        "mistral_v1",
        ["<pad>", *special],
        size=NUM_TOKENS,
        adds_prefix_space=False,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        adds_bos=True,
        named=named,
    )


def gemma3() -> Built:
    words = _gemma_tokenizer(
        *("<start_of_turn>", "<end_of_turn>"),
        boi_token="<start_of_image>",
        eoi_token="<end_of_image>",
        image_token="<image_soft_token>",
    )
    text = text_config(
        "gemma3_text",
        words,
        head_dim=HEAD_DIM,
        sliding_window=64,
        layer_types=["sliding_attention", "full_attention"],
    )
    config = hf.Gemma3Config(
        text_config=text,
        vision_config=SIGLIP,
        mm_tokens_per_image=4,
        boi_token_index=words.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=words.convert_tokens_to_ids("<end_of_image>"),
        image_token_index=words.convert_tokens_to_ids("<image_soft_token>"),
    )
    processor = hf.Gemma3Processor(hf.Gemma3ImageProcessor(size=SQUARE), words, image_seq_length=4)
    return hf.Gemma3ForConditionalGeneration(config), processor


def gemma4() -> Built:
    words = _gemma_tokenizer(
        *("<|turn>", "<turn|>", "<|video|>"),
        boi_token="<|image>",
        eoi_token="<image|>",
        image_token="<|image|>",
        audio_token="<|audio|>",
        boa_token="<|audio>",
        eoa_token="<audio|>",
    )
    text = text_config(
        "gemma4_text",
        words,
        head_dim=HEAD_DIM,
        global_head_dim=HEAD_DIM,
        sliding_window=64,
        vocab_size_per_layer_input=len(words),
        hidden_size_per_layer_input=8,
        layer_types=["sliding_attention", "full_attention"],
        final_logit_softcapping=30.0,
    )
    config = hf.Gemma4Config(
        text_config=text,
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "patch_size": 8,
            "pooling_kernel_size": 3,
            "position_embedding_size": 256,
        },
        audio_config=None,
        boi_token_id=words.convert_tokens_to_ids("<|image>"),
        eoi_token_id=words.convert_tokens_to_ids("<image|>"),
        image_token_id=words.convert_tokens_to_ids("<|image|>"),
        video_token_id=words.convert_tokens_to_ids("<|video|>"),
        audio_token_id=words.convert_tokens_to_ids("<|audio|>"),
    )
    processor = hf.Gemma4Processor(
        hf.Gemma4AudioFeatureExtractor(),
        hf.Gemma4ImageProcessor(patch_size=8, max_soft_tokens=70),
        words,
        hf.Gemma4VideoProcessor(patch_size=8),
        image_seq_length=70,
    )
    return hf.Gemma4ForConditionalGeneration(config), processor


def _paligemma(text_type: str, **others: Any) -> Built:
    """The base models have no chat template; a user puts one beside them."""
    words = _gemma_tokenizer("<start_of_turn>", "<end_of_turn>", "<image>")
    images = hf.SiglipImageProcessor(size=SQUARE)
    images.image_seq_length = NUM_PATCHES
    processor = hf.PaliGemmaProcessor(images, words)  # it adds tokens of places and masks
    config = hf.PaliGemmaConfig(
        text_config=text_config(text_type, words, head_dim=HEAD_DIM, **others),
        vision_config=SIGLIP | {"projection_dim": HIDDEN},
        image_token_index=words.convert_tokens_to_ids("<image>"),
        vocab_size=len(words),
        projection_dim=HIDDEN,
        hidden_size=HIDDEN,
    )
    return hf.PaliGemmaForConditionalGeneration(config), processor


def paligemma() -> Built:
    return _paligemma("gemma")


def paligemma2() -> Built:
    caps = {"final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0}
    return _paligemma("gemma2", sliding_window=64, query_pre_attn_scalar=HEAD_DIM, **caps)


def mllama() -> Built:
    words = build_tokenizer(
        "llama3",
        [
            *("<|header_start|>", "<|header_end|>", "<|eot|>", "<|python_tag|>", "<|image|>"),
            *("<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad_id|>"),
        ],
        size=NUM_TOKENS,
        bos_token="<|begin_of_text|>",
        eos_token="<|eot|>",
        pad_token="<|finetune_right_pad_id|>",
        adds_bos=True,
    )
    image = words.convert_tokens_to_ids("<|image|>")
    text = text_config("mllama_text_model", words, num_hidden_layers=3, cross_attention_layers=[1])
    config = hf.MllamaConfig(
        text_config=text,
        vision_config={
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_global_layers": 1,
            "attention_heads": 2,
            "intermediate_size": 48,
            "vision_output_dim": 64,
            "image_size": SIDE,
            "patch_size": 14,
            "max_num_tiles": 4,
            "intermediate_layers_indices": [0],
        },
        image_token_index=image,
    )
    processor = hf.MllamaProcessor(hf.MllamaImageProcessor(size=SQUARE, max_image_tiles=4), words)
    return hf.MllamaForConditionalGeneration(config), processor


def llama4() -> Built:
    parts = [
        *("<|image|>", "<|image_start|>", "<|image_end|>", "<|patch|>"),
        *("<|tile_x_separator|>", "<|tile_y_separator|>"),
    ]
    words = build_tokenizer(
        "llama4",
        [
            *("<|begin_of_text|>", "<|header_start|>", "<|header_end|>", "<|eot|>", "<|eom|>"),
            *("<|python_start|>", "<|python_end|>", "<|finetune_right_pad|>", *parts),
        ],
        size=NUM_TOKENS,
        bos_token="<|begin_of_text|>",
        eos_token="<|eot|>",
        pad_token="<|finetune_right_pad|>",
        adds_bos=True,
    )
    config = hf.Llama4Config(
        text_config=text_config(
            "llama4_text",
            words,
            head_dim=HEAD_DIM,
            intermediate_size_mlp=96,
            num_local_experts=2,
            num_experts_per_tok=1,
            attention_chunk_size=128,
        ),
        vision_config={
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 128,  # 32 / 0.5**2: what the pixel shuffle makes
            "vision_output_dim": 64,
            "image_size": SIDE,
            "patch_size": 14,
            "projector_input_dim": 64,
            "projector_output_dim": 64,
        },
        boi_token_index=words.convert_tokens_to_ids("<|image_start|>"),
        eoi_token_index=words.convert_tokens_to_ids("<|image_end|>"),
        image_token_index=words.convert_tokens_to_ids("<|patch|>"),
    )
    images = hf.Llama4ImageProcessor(size=SQUARE, max_patches=4)
    processor = hf.Llama4Processor(images, words, patch_size=14, pixel_shuffle_ratio=0.5)
    return hf.Llama4ForConditionalGeneration(config), processor


def deepseek_vl() -> Built:
    words = build_tokenizer(
        "deepseek",
        ["<|im_start|>", "<|im_end|>"],
        size=NUM_TOKENS,
        bos_token="<｜begin▁of▁sentence｜>",  # noqa: RUF001
        eos_token="<|im_end|>",
        adds_bos=True,
        named={"image_token": "<image_placeholder>"},
    )
    config = hf.DeepseekVLConfig(
        text_config=text_config("llama", words),
        vision_config=SIGLIP,
        image_token_id=words.convert_tokens_to_ids("<image_placeholder>"),
    )
    images = hf.DeepseekVLImageProcessor(size=SQUARE, min_size=14)
    processor = hf.DeepseekVLProcessor(images, words, num_image_tokens=NUM_PATCHES)
    return hf.DeepseekVLForConditionalGeneration(config), processor


def aria() -> Built:
    words = build_tokenizer(
        "mistral_v1",
        ["<pad>", "<|im_start|>", "<|im_end|>"],
        size=NUM_TOKENS,
        eos_token="<|im_end|>",
        pad_token="<pad>",
        named={"image_token": "<|img|>"},
    )
    # The processor knows two sizes of images; patches of 140 pixels keep their number small.
    vision = SIGLIP | {
        "model_type": "idefics3_vision",
        "hidden_size": 8,
        "image_size": 980,
        "patch_size": 140,
    }
    config = hf.AriaConfig(
        text_config=text_config(
            "aria_text", words, moe_num_experts=4, moe_topk=2, intermediate_size=32
        ),
        vision_config=vision,
        image_token_index=words.convert_tokens_to_ids("<|img|>"),
        projector_patch_to_query_dict={(980 // 140) ** 2: 4},
    )
    processor = hf.AriaProcessor(hf.AriaImageProcessor(), words, size_conversion={490: 2, 980: 4})
    return hf.AriaForConditionalGeneration(config), processor


def ernie4_5_vl() -> Built:
    parts = {
        "image_token": "<|IMAGE_PLACEHOLDER|>",
        "image_start_token": "<|IMAGE_START|>",
        "image_end_token": "<|IMAGE_END|>",
        "video_token": "<|VIDEO_PLACEHOLDER|>",
        "video_start_token": "<|VIDEO_START|>",
        "video_end_token": "<|VIDEO_END|>",
    }
    words = qwen_tokenizer(**parts)
    ids = {f"{name}_id": words.convert_tokens_to_ids(token) for name, token in parts.items()}
    config = hf.Ernie4_5_VLMoeConfig(
        text_config=text_config(
            "ernie4_5_vl_moe_text",
            words,
            moe_intermediate_size=[32, 32],
            moe_num_experts=4,
            moe_num_shared_experts=1,
            moe_k=2,
            mlp_layer_types=["dense", "sparse"],
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [6, 6, 4],
            },
        ),
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "num_heads": 2,
            "intermediate_size": 48,
        },
        **ids,
    )
    size = {"shortest_edge": 4 * 28 * 28, "longest_edge": 16 * 28 * 28}
    processor = hf.Ernie4_5_VLMoeProcessor(
        hf.Ernie4_5_VLMoeImageProcessor(size=size),
        words,
        hf.Ernie4_5_VLMoeVideoProcessor(draw_on_frames=False),  # else it looks for a font
    )
    return hf.Ernie4_5_VLMoeForConditionalGeneration(config), processor


FAMILIES = (
    Family("gemma3", gemma3, "gemma3"),
    Family("gemma4", gemma4, "gemma4_v5"),
    Family("paligemma", paligemma, "gemma3", "<image>"),
    Family("paligemma2", paligemma2, "gemma3", "<image>"),
    Family("mllama", mllama, "llama4_transformers", "<|image|>"),
    Family("llama4", llama4, "llama4_transformers"),
    Family("deepseek-vl", deepseek_vl, "qwen2_5_vl", "<image_placeholder>"),
    Family("aria", aria, "qwen2_5_vl", "<fim_prefix><|img|><fim_suffix>"),
    Family(
        "ernie4.5-vl",
        ernie4_5_vl,
        "qwen2_5_vl",
        "<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>",
    ),
)
