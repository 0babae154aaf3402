"""Finding a model's decoder blocks: by one rule for all families, or by the user's path."""

from __future__ import annotations

import pytest
import torch
import transformers as hf
from transformers import AutoModelForImageTextToText, PreTrainedConfig, PreTrainedModel

from sekd.errors import ConfigError
from sekd.models.loading import decoder_blocks

FAMILIES = {
    "Qwen2VLConfig": "model.language_model.layers",
    "Qwen2_5_VLConfig": "model.language_model.layers",
    "Qwen3VLConfig": "model.language_model.layers",
    "InternVLConfig": "model.language_model.layers",
    "LlavaConfig": "model.language_model.layers",
    "LlavaOnevisionConfig": "model.language_model.layers",
    "Gemma3Config": "model.language_model.layers",
    "Mistral3Config": "model.language_model.layers",
    "Llama4Config": "language_model.model.layers",  # its get_decoder() returns the module above
    "Kosmos2Config": "text_model.model.layers",
    "Blip2Config": "language_model.model.decoder.layers",
}


def build_on_meta(config: PreTrainedConfig) -> PreTrainedModel:
    """A model on the meta device, without weights."""
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_decoder_of_each_family_is_found(family: str) -> None:
    model = build_on_meta(getattr(hf, family)())
    path, blocks = decoder_blocks(model)
    assert path == FAMILIES[family]
    assert len(blocks) == model.config.get_text_config().num_hidden_layers
    assert blocks is model.get_submodule(path)


@pytest.fixture(scope="module")
def ambiguous_model() -> PreTrainedModel:
    """An encoder and a decoder with the same number of blocks: the user must choose."""
    return build_on_meta(hf.Florence2Config())


def test_for_an_ambiguous_decoder_the_message_lists_the_choices(
    ambiguous_model: PreTrainedModel,
) -> None:
    with pytest.raises(
        ConfigError,
        match=r"2 lists of 12 blocks .* set model.decoder_blocks to one of .*"
        r"model.language_model.encoder.layers, model.language_model.decoder.layers",
    ):
        decoder_blocks(ambiguous_model)


def test_the_users_path_is_used(ambiguous_model: PreTrainedModel) -> None:
    path = "model.language_model.decoder.layers"
    assert decoder_blocks(ambiguous_model, path) == (path, ambiguous_model.get_submodule(path))
    with pytest.raises(ConfigError, match=r"'model.layers' is none of .*decoder.layers"):
        decoder_blocks(ambiguous_model, "model.layers")
