"""Families that see an image at its own size: Qwen-VL, GLM-4V, Pixtral, Kimi, LFM2-VL."""

from __future__ import annotations

from typing import Any

import transformers as hf
from gallery_parts import (
    HEAD_DIM,
    HIDDEN,
    NUM_TOKENS,
    SIGLIP,
    TEXT,
    VISION,
    Built,
    Family,
    text_config,
)
from gallery_tokenizers import build_tokenizer

QWEN_TOKENS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"),
    *("<|vision_pad|>", "<|image_pad|>", "<|video_pad|>", "<think>", "</think>"),
)
PIXELS = {"min_pixels": 4 * 28 * 28, "max_pixels": 16 * 28 * 28}


def qwen_tokenizer(*more: str, **named: str) -> hf.PreTrainedTokenizerFast:
    """The Qwen vocabulary with the tokens of its vision models."""
    return build_tokenizer(
        "qwen",
        [*QWEN_TOKENS, *more],
        size=NUM_TOKENS,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        named=named,
    )


def _qwen_ids(words: Any) -> dict[str, int]:
    return {
        "image_token_id": words.convert_tokens_to_ids("<|image_pad|>"),
        "video_token_id": words.convert_tokens_to_ids("<|video_pad|>"),
        "vision_start_token_id": words.convert_tokens_to_ids("<|vision_start|>"),
        "vision_end_token_id": words.convert_tokens_to_ids("<|vision_end|>"),
    }


def _mrope(*section: int, **others: Any) -> dict[str, Any]:
    return {
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [*section],
            **others,
        }
    }


def qwen2_vl() -> Built:
    words = qwen_tokenizer()
    config = hf.Qwen2VLConfig(
        text_config=text_config("qwen2_vl_text", words, **_mrope(4, 6, 6)),
        vision_config={"depth": 2, "embed_dim": 32, "num_heads": 2, "hidden_size": HIDDEN},
        **_qwen_ids(words),
    )
    processor = hf.Qwen2VLProcessor(
        hf.Qwen2VLImageProcessor(**PIXELS), words, hf.Qwen2VLVideoProcessor()
    )
    return hf.Qwen2VLForConditionalGeneration(config), processor


def qwen2_5_vl() -> Built:
    words = qwen_tokenizer()
    config = hf.Qwen2_5_VLConfig(
        text_config=text_config("qwen2_5_vl_text", words, **_mrope(4, 6, 6)),
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "out_hidden_size": HIDDEN,
            "fullatt_block_indexes": [1],
        },
        **_qwen_ids(words),
    )
    processor = hf.Qwen2_5_VLProcessor(
        hf.Qwen2VLImageProcessor(**PIXELS), words, hf.Qwen2VLVideoProcessor()
    )
    return hf.Qwen2_5_VLForConditionalGeneration(config), processor


def _qwen3_vision(**others: Any) -> dict[str, Any]:
    return {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "out_hidden_size": HIDDEN,
        "num_position_embeddings": 64,
        **others,
    }


def _qwen3_processor(words: Any) -> Any:
    images = hf.Qwen2VLImageProcessor(
        patch_size=16, size={"shortest_edge": 32 * 32, "longest_edge": 16 * 32 * 32}
    )
    return hf.Qwen3VLProcessor(images, words, hf.Qwen3VLVideoProcessor())


EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}


def qwen3_vl() -> Built:
    words = qwen_tokenizer()
    config = hf.Qwen3VLConfig(
        text_config=text_config("qwen3_vl_text", words, head_dim=HEAD_DIM, **_mrope(4, 6, 6)),
        vision_config=_qwen3_vision(deepstack_visual_indexes=[0, 1]),
        **_qwen_ids(words),
    )
    return hf.Qwen3VLForConditionalGeneration(config), _qwen3_processor(words)


def qwen3_vl_moe() -> Built:
    words = qwen_tokenizer()
    text = text_config("qwen3_vl_moe_text", words, head_dim=HEAD_DIM, **EXPERTS, **_mrope(4, 6, 6))
    config = hf.Qwen3VLMoeConfig(
        text_config=text,
        vision_config=_qwen3_vision(deepstack_visual_indexes=[0, 1]),
        **_qwen_ids(words),
    )
    return hf.Qwen3VLMoeForConditionalGeneration(config), _qwen3_processor(words)


LINEAR_ATTENTION = {
    "num_hidden_layers": 4,
    "head_dim": HEAD_DIM,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
"""Three blocks of linear attention and one of full attention."""


def qwen3_5() -> Built:
    words = qwen_tokenizer()
    config = hf.Qwen3_5Config(
        text_config=text_config(
            "qwen3_5_text",
            words,
            **LINEAR_ATTENTION,
            **_mrope(1, 1, 2, partial_rotary_factor=0.25, mrope_interleaved=True),
        ),
        vision_config=_qwen3_vision(),
        **_qwen_ids(words),
    )
    return hf.Qwen3_5ForConditionalGeneration(config), _qwen3_processor(words)


def qwen3_5_moe() -> Built:
    words = qwen_tokenizer()
    config = hf.Qwen3_5MoeConfig(
        text_config=text_config(
            "qwen3_5_moe_text",
            words,
            **LINEAR_ATTENTION,
            **EXPERTS,
            shared_expert_intermediate_size=32,
            **_mrope(1, 1, 2, partial_rotary_factor=0.25, mrope_interleaved=True),
        ),
        vision_config=_qwen3_vision(),
        **_qwen_ids(words),
    )
    return hf.Qwen3_5MoeForConditionalGeneration(config), _qwen3_processor(words)


GLM_TOKENS = (
    *("<|image|>", "<|video|>", "<|begin_of_image|>", "<|end_of_image|>"),
    *("<|begin_of_video|>", "<|end_of_video|>"),
)


def _glm(model: Any, config: Any, processor: Any, images: Any, videos: Any) -> Built:
    words = qwen_tokenizer(*GLM_TOKENS)
    image, video, image_start, image_end, video_start, video_end = words.convert_tokens_to_ids(
        [*GLM_TOKENS]
    )
    rope = _mrope(2, 3, 3, partial_rotary_factor=0.5)
    built = config(
        text_config=text_config("glm4v_text", words, **rope),
        vision_config={
            "model_type": "glm4v_vision",
            "depth": 2,
            "hidden_size": 32,
            "num_heads": 2,
            "image_size": 56,
            "intermediate_size": 48,
            "out_hidden_size": HIDDEN,
        },
        image_token_id=image,
        video_token_id=video,
        image_start_token_id=image_start,
        image_end_token_id=image_end,
        video_start_token_id=video_start,
        video_end_token_id=video_end,
    )
    size = {"shortest_edge": 4 * 28 * 28, "longest_edge": 32 * 28 * 28}
    return model(built), processor(images(size=size), words, videos())


def glm4v() -> Built:
    return _glm(
        hf.Glm4vForConditionalGeneration,
        hf.Glm4vConfig,
        hf.Glm4vProcessor,
        hf.Glm4vImageProcessor,
        hf.Glm4vVideoProcessor,
    )


def glm46v() -> Built:
    return _glm(
        hf.Glm46VForConditionalGeneration,
        hf.Glm46VConfig,
        hf.Glm46VProcessor,
        hf.Glm46VImageProcessor,
        hf.Glm46VVideoProcessor,
    )


def _mistral_tokenizer() -> hf.PreTrainedTokenizerFast:
    return build_tokenizer("tekken", ["[IMG]", "[IMG_BREAK]", "[IMG_END]"], size=NUM_TOKENS)


def _pixtral_processor(words: Any, merge: int) -> Any:
    images = hf.PixtralImageProcessor(
        size={"longest_edge": 112}, patch_size={"height": 14, "width": 14}
    )
    return hf.PixtralProcessor(images, words, patch_size=14, spatial_merge_size=merge)


PIXTRAL = VISION | {"model_type": "pixtral", "head_dim": 16, "image_size": 112}


def pixtral() -> Built:
    """Pixtral 12B as transformers has it: a LLaVA with Pixtral's tower."""
    words = _mistral_tokenizer()
    config = hf.LlavaConfig(
        text_config=text_config("mistral", words, head_dim=HEAD_DIM, sliding_window=None),
        vision_config=PIXTRAL,
        image_token_index=words.convert_tokens_to_ids("[IMG]"),
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )
    return hf.LlavaForConditionalGeneration(config), _pixtral_processor(words, 1)


def mistral3() -> Built:
    words = _mistral_tokenizer()
    config = hf.Mistral3Config(
        text_config=text_config("mistral", words, head_dim=HEAD_DIM, sliding_window=None),
        vision_config=PIXTRAL,
        image_token_index=words.convert_tokens_to_ids("[IMG]"),
        tie_word_embeddings=False,
    )
    return hf.Mistral3ForConditionalGeneration(config), _pixtral_processor(words, 2)


def lfm2_vl() -> Built:
    parts = {
        "image_token": "<image>",
        "image_start_token": "<|image_start|>",
        "image_end_token": "<|image_end|>",
        "image_thumbnail": "<|img_thumbnail|>",
    }
    rows = [f"<|img_row_{row}_col_{column}|>" for row in (1, 2) for column in (1, 2)]
    words = build_tokenizer(
        "llama3",
        ["<|pad|>", "<|startoftext|>", "<|im_start|>", "<|im_end|>", *rows],
        size=NUM_TOKENS,
        bos_token="<|startoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        adds_bos=True,
        named=parts,
    )
    config = hf.Lfm2VlConfig(
        text_config=text_config(
            "lfm2", words, layer_types=["conv", "full_attention"], block_multiple_of=32
        ),
        vision_config=SIGLIP | {"model_type": "siglip2_vision_model", "num_patches": 16},
        image_token_id=words.convert_tokens_to_ids("<image>"),
        projector_hidden_size=48,
    )
    images = hf.Lfm2VlImageProcessor(
        encoder_patch_size=14,
        tile_size=56,
        max_tiles=4,
        min_image_tokens=4,
        max_image_tokens=16,
        max_num_patches=64,
    )
    return hf.Lfm2VlForConditionalGeneration(config), hf.Lfm2VlProcessor(images, words)


def kimi_k25() -> Built:
    words = qwen_tokenizer("<|media_pad|>", "<|kimi_k25_video_placeholder|>")
    config = hf.Kimi_K25Config(
        text_config=text_config(
            "deepseek_v3",
            words,
            n_routed_experts=4,
            num_experts_per_tok=2,
            n_shared_experts=1,
            n_group=1,
            topk_group=1,
            first_k_dense_replace=1,
            moe_intermediate_size=32,
            kv_lora_rank=16,
            q_lora_rank=24,
            qk_rope_head_dim=8,
            qk_nope_head_dim=8,
            v_head_dim=HEAD_DIM,
            num_key_value_heads=TEXT["num_attention_heads"],
        ),
        vision_config={
            "patch_size": 14,
            "pos_emb_height": 8,
            "pos_emb_width": 8,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
        },
        projection_hidden_size=32,
        image_token_id=words.convert_tokens_to_ids("<|media_pad|>"),
        video_token_id=words.convert_tokens_to_ids("<|kimi_k25_video_placeholder|>"),
        vision_start_token_id=words.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=words.convert_tokens_to_ids("<|vision_end|>"),
        tie_word_embeddings=False,
    )
    images = hf.Kimi_K25ImageProcessor(max_patches=64)
    processor = hf.Kimi_K25Processor(images, words, hf.Kimi_K25VideoProcessor())
    return hf.Kimi_K25ForConditionalGeneration(config), processor


def muse_glimmer() -> Built:
    words = build_tokenizer(
        "llama4",
        [
            *("<|start|>", "<|message|>", "<|eom|>", "<|eot|>", "<|patch|>", "<|image_start|>"),
            *("<|image_end|>", "<|video|>", "<|vid_frame_separator|>", "<|vid_start|>"),
            *("<|vid_end|>", "<|begin_of_text|>"),
        ],
        size=NUM_TOKENS,
        bos_token="<|begin_of_text|>",
        eos_token="<|eot|>",
    )
    config = hf.MuseGlimmerConfig(
        text_config=text_config(
            "muse_glimmer_text", words, head_dim=HEAD_DIM, sliding_window=64, output_multiplier=0.5
        ),
        vision_config={
            "pos_emb_height": 8,
            "pos_emb_width": 8,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
        },
        image_token_id=words.convert_tokens_to_ids("<|patch|>"),
        video_token_id=words.convert_tokens_to_ids("<|video|>"),
        out_hidden_size=4 * 32,
        projector_hidden_size=48,
    )
    images = hf.MuseGlimmerImageProcessor(max_image_tokens=16)
    processor = hf.MuseGlimmerProcessor(images, hf.MuseGlimmerVideoProcessor(), words)
    return hf.MuseGlimmerForConditionalGeneration(config), processor


FAMILIES = (
    Family("qwen2-vl", qwen2_vl, "qwen2_5_vl"),
    Family("qwen2.5-vl", qwen2_5_vl, "qwen2_5_vl"),
    Family("qwen3-vl", qwen3_vl, "qwen3_vl"),
    Family("qwen3-vl-moe", qwen3_vl_moe, "qwen3_vl"),
    Family("qwen3.5", qwen3_5, "qwen3_5_nothink"),
    Family("qwen3.5-moe", qwen3_5_moe, "qwen3_5_think"),
    Family("glm-4v", glm4v, "qwen3_vl", "<|begin_of_image|><|image|><|end_of_image|>"),
    Family("glm-4.6v", glm46v, "qwen3_vl", "<|begin_of_image|><|image|><|end_of_image|>"),
    Family("pixtral", pixtral, "mistral_v3_tekken"),
    Family("mistral3", mistral3, "mistral_v7_tekken"),
    Family("lfm2-vl", lfm2_vl, "lfm2_2_5_vl"),
    Family("kimi-k2.5", kimi_k25, "qwen3_vl", "<|media_pad|>"),
    Family("muse-glimmer", muse_glimmer, "muse_glimmer"),
)
