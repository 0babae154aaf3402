"""Families that cut an image into tiles: LLaVA, Idefics, InternVL, Cohere, Granite, Ovis."""

from __future__ import annotations

from typing import Any

import transformers as hf
from gallery_families_native import qwen_tokenizer
from gallery_parts import (
    CLIP,
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
PINPOINTS = [[SIDE, SIDE], [SIDE, 2 * SIDE], [2 * SIDE, SIDE]]


def _sentencepiece(*special: str, **others: Any) -> hf.PreTrainedTokenizerFast:
    """Llama 2's way: a space before each text, and a BOS in front."""
    return build_tokenizer("mistral_v1", special, size=NUM_TOKENS, adds_bos=True, **others)


def _clip_images() -> dict[str, Any]:
    return {"size": {"shortest_edge": SIDE}, "crop_size": SQUARE}


def llava() -> Built:
    words = _sentencepiece("<image>", "<pad>", pad_token="<pad>")
    config = hf.LlavaConfig(
        text_config=text_config("llama", words),
        vision_config=CLIP,
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    processor = hf.LlavaProcessor(
        hf.CLIPImageProcessor(**_clip_images()),
        words,
        patch_size=VISION["patch_size"],
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    return hf.LlavaForConditionalGeneration(config), processor


def vipllava() -> Built:
    words = _sentencepiece("<image>", "<pad>", pad_token="<pad>")
    config = hf.VipLlavaConfig(
        text_config=text_config("llama", words),
        vision_config=CLIP,
        image_token_index=words.convert_tokens_to_ids("<image>"),
        vision_feature_layers=[-1, -2],
    )
    processor = hf.LlavaProcessor(
        hf.CLIPImageProcessor(**_clip_images()),
        words,
        patch_size=VISION["patch_size"],
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    return hf.VipLlavaForConditionalGeneration(config), processor


def _llava_next(text_type: str, words: Any, **others: Any) -> Built:
    config = hf.LlavaNextConfig(
        text_config=text_config(text_type, words, **others),
        vision_config=CLIP,
        image_token_index=words.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=PINPOINTS,
    )
    processor = hf.LlavaNextProcessor(
        hf.LlavaNextImageProcessor(**_clip_images(), image_grid_pinpoints=PINPOINTS),
        words,
        patch_size=VISION["patch_size"],
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    return hf.LlavaNextForConditionalGeneration(config), processor


def llava_next() -> Built:
    words = _sentencepiece("<image>", "<pad>", pad_token="<pad>")
    return _llava_next("mistral", words, sliding_window=None)


GRANITE = {
    "embedding_multiplier": 12.0,
    "logits_scaling": 8.0,
    "residual_multiplier": 0.22,
    "attention_multiplier": 0.0625,
}


def granite_vision() -> Built:
    """Granite Vision 3: a LLaVA-NeXT over a Granite with its scales."""
    return _llava_next("granite", qwen_tokenizer("<image>"), **GRANITE)


def granite4_vision() -> Built:
    words = qwen_tokenizer("<image>")
    config = hf.Granite4VisionConfig(
        text_config=text_config("granite4_vision_text", words, **GRANITE),
        vision_config=SIGLIP,
        qformer_config={
            "model_type": "blip_2_qformer",
            "num_hidden_layers": 1,
            "hidden_size": VISION["hidden_size"],
            "encoder_hidden_size": VISION["hidden_size"],
            "num_attention_heads": 2,
            "intermediate_size": 48,
            "cross_attention_frequency": 1,
            "use_qformer_text_input": False,
        },
        image_token_index=words.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=PINPOINTS,
        vision_feature_select_strategy="full",
        downsample_rate="1/2",
        deepstack_layer_map=[[0, 0]],
        spatial_target_layers=[0, 1, 0, 1],
    )
    processor = hf.Granite4VisionProcessor(
        hf.LlavaNextImageProcessor(**_clip_images(), image_grid_pinpoints=PINPOINTS),
        words,
        patch_size=VISION["patch_size"],
        vision_feature_select_strategy="full",
        downsample_rate="1/2",
    )
    return hf.Granite4VisionForConditionalGeneration(config), processor


def llava_onevision() -> Built:
    words = qwen_tokenizer("<image>", "<video>")
    config = hf.LlavaOnevisionConfig(
        text_config=text_config("qwen2", words),
        vision_config=SIGLIP,
        image_grid_pinpoints=PINPOINTS,
        image_token_index=words.convert_tokens_to_ids("<image>"),
        video_token_index=words.convert_tokens_to_ids("<video>"),
    )
    processor = hf.LlavaOnevisionProcessor(
        hf.LlavaOnevisionImageProcessor(size=SQUARE, image_grid_pinpoints=PINPOINTS),
        words,
        hf.LlavaOnevisionVideoProcessor(),
        num_image_tokens=(SIDE // VISION["patch_size"]) ** 2,
        vision_feature_select_strategy="full",
    )
    return hf.LlavaOnevisionForConditionalGeneration(config), processor


def internvl() -> Built:
    parts = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    words = qwen_tokenizer(**parts)
    config = hf.InternVLConfig(
        text_config=text_config("qwen2", words),
        vision_config=VISION | {"image_size": [SIDE, SIDE], "patch_size": [14, 14]},
        image_token_id=words.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    processor = hf.InternVLProcessor(
        hf.GotOcr2ImageProcessor(size=SQUARE, crop_to_patches=True, max_patches=4),
        words,
        hf.InternVLVideoProcessor(),
        image_seq_length=4,
    )
    return hf.InternVLForConditionalGeneration(config), processor


COHERE_TOKENS = (
    *("<PAD>", "<BOS_TOKEN>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"),
    *("<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|im_start|>", "<|im_end|>"),
)


COHERE2 = {
    "logit_scale": 0.25,
    "sliding_window": 64,
    "layer_types": ["sliding_attention", "full_attention"],
}


def _cohere_tokenizer(*special: str, **named: str) -> hf.PreTrainedTokenizerFast:
    return build_tokenizer(
        "llama3",
        [*COHERE_TOKENS, *special],
        size=NUM_TOKENS,
        bos_token="<BOS_TOKEN>",
        eos_token="<|im_end|>",
        pad_token="<PAD>",
        adds_bos=True,
        named=named,
    )


def aya_vision() -> Built:
    parts = ["<image>", "<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>"]
    tiles = ["<|IMG_LINE_BREAK|>", "TILE_GLOBAL", *(f"TILE_{index}" for index in range(1, 13))]
    words = _cohere_tokenizer(*parts, *tiles)
    config = hf.AyaVisionConfig(
        text_config=text_config("cohere2", words, **COHERE2),
        vision_config=SIGLIP,
        image_token_index=words.convert_tokens_to_ids("<|IMG_PATCH|>"),
    )
    processor = hf.AyaVisionProcessor(
        hf.GotOcr2ImageProcessor(size=SQUARE, crop_to_patches=True, max_patches=4),
        words,
        patch_size=VISION["patch_size"],
        img_size=SIDE,
        downsample_factor=2,
    )
    return hf.AyaVisionForConditionalGeneration(config), processor


def cohere2_vision() -> Built:
    words = _cohere_tokenizer(
        boi_token="<|START_OF_IMG|>",
        eoi_token="<|END_OF_IMG|>",
        image_token="<|IMG_PATCH|>",
        img_line_break_token="<|IMG_LINE_BREAK|>",
    )
    config = hf.Cohere2VisionConfig(
        text_config=text_config("cohere2", words, **COHERE2),
        vision_config=SIGLIP,
        image_token_id=words.convert_tokens_to_ids("<|IMG_PATCH|>"),
        alignment_intermediate_size=64,
    )
    images = hf.Cohere2VisionImageProcessor(
        size=SQUARE,
        crop_to_patches=True,
        max_patches=4,
        patch_size=2,  # tokens along a side of a tile
    )
    processor = hf.Cohere2VisionProcessor(images, words)
    return hf.Cohere2VisionForConditionalGeneration(config), processor


def idefics2() -> Built:
    words = _sentencepiece(
        *("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<|begin_of_text|>")
    )
    config = hf.Idefics2Config(
        text_config=text_config("mistral", words),
        vision_config=VISION,
        perceiver_config={
            "hidden_size": HIDDEN,
            "resampler_n_latents": 4,
            "resampler_depth": 1,
            "resampler_n_heads": 2,
            "resampler_head_dim": 16,
            "num_key_value_heads": 1,
        },
        image_token_id=words.convert_tokens_to_ids("<image>"),
    )
    images = hf.Idefics2ImageProcessor(
        size={"shortest_edge": 28, "longest_edge": 56}, do_image_splitting=True
    )
    processor = hf.Idefics2Processor(images, words, image_seq_len=4)
    return hf.Idefics2ForConditionalGeneration(config), processor


IDEFICS_TOKENS = (
    *("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>", "<video>"),
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
)


def _idefics3_tokenizer(bos_token: str) -> hf.PreTrainedTokenizerFast:
    return build_tokenizer(
        "llama3",
        IDEFICS_TOKENS,
        size=NUM_TOKENS,
        bos_token=bos_token,
        eos_token="<end_of_utterance>",
        pad_token="<|end_of_text|>",
        adds_bos=True,
    )


def idefics3() -> Built:
    words = _idefics3_tokenizer("<|begin_of_text|>")
    config = hf.Idefics3Config(
        text_config=text_config("llama", words),
        vision_config=VISION,
        image_token_id=words.convert_tokens_to_ids("<image>"),
        pad_token_id=words.pad_token_id,
    )
    images = hf.Idefics3ImageProcessor(
        size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE}
    )
    processor = hf.Idefics3Processor(images, words, image_seq_len=4)
    return hf.Idefics3ForConditionalGeneration(config), processor


def smolvlm() -> Built:
    words = _idefics3_tokenizer("<|im_start|>")
    config = hf.SmolVLMConfig(
        text_config=text_config("llama", words),
        vision_config=VISION,
        image_token_id=words.convert_tokens_to_ids("<image>"),
        pad_token_id=words.pad_token_id,
    )
    images = hf.SmolVLMImageProcessor(
        size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE}
    )
    processor = hf.SmolVLMProcessor(images, words, hf.SmolVLMVideoProcessor(), image_seq_len=4)
    return hf.SmolVLMForConditionalGeneration(config), processor


def ovis2() -> Built:
    names = ["<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>", "<IMG_ATOM>"]
    words = qwen_tokenizer("<image>", *names)
    ids = words.convert_tokens_to_ids(names)
    config = hf.Ovis2Config(
        text_config=text_config("qwen2", words),
        vision_config=VISION | {"vocab_size": 64, "hidden_stride": 2},
        image_token_id=ids[-1],
        visual_indicator_token_ids=ids[:-1],
        vocab_size=len(words),
        hidden_size=HIDDEN,
    )
    images = hf.Ovis2ImageProcessor(size=SQUARE, crop_to_patches=True, max_patches=4)
    processor = hf.Ovis2Processor(images, words, image_seq_length=4)
    return hf.Ovis2ForConditionalGeneration(config), processor


FAMILIES = (
    Family("llava", llava, "llava_next"),
    Family("vip-llava", vipllava, "llava_next"),
    Family("llava-next", llava_next, "llava_next"),
    Family("granite-vision", granite_vision, "qwen2_5_vl", "<image>\n"),
    Family("granite4-vision", granite4_vision, "qwen2_5_vl", "<image>\n"),
    Family("llava-onevision", llava_onevision, "qwen2_5_vl", "<image>\n"),
    Family("internvl", internvl, "qwen2_5_vl", "<IMG_CONTEXT>\n"),
    Family("aya-vision", aya_vision, "lfm2_2_5_vl"),
    Family("cohere2-vision", cohere2_vision, "lfm2_2_5_vl", "<|IMG_PATCH|>"),
    Family("idefics2", idefics2, "idefics3"),
    Family("idefics3", idefics3, "idefics3"),
    Family("smolvlm", smolvlm, "smolvlm_transformers"),
    Family("ovis2", ovis2, "qwen2_5_vl", "<image>\n"),
)
