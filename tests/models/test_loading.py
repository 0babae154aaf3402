"""Finding a model's decoder: by one rule for all families, or by the path that the user gives."""

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
    "Llama4Config": "language_model.model.layers",  # whose get_decoder() leads one module too high
    "Kosmos2Config": "text_model.model.layers",
    "Blip2Config": "language_model.model.decoder.layers",
}


def on_meta(config: PreTrainedConfig) -> PreTrainedModel:
    """A model of any size, without its weights."""
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_decoder_of_a_family_is_found(family: str) -> None:
    model = on_meta(getattr(hf, family)())
    path, blocks = decoder_blocks(model)
    assert path == FAMILIES[family]
    assert len(blocks) == model.config.get_text_config().num_hidden_layers
    assert blocks is model.get_submodule(path)


@pytest.fixture(scope="module")
def two_lists() -> PreTrainedModel:
    """An encoder and a decoder of one length: which one, the user must say."""
    return on_meta(hf.Florence2Config())


def test_where_it_is_not_clear_the_message_lists_what_there_is(
    two_lists: PreTrainedModel,
) -> None:
    with pytest.raises(
        ConfigError,
        match=r"2 lists of 12 blocks .* set model.decoder_blocks to one of .*"
        r"model.language_model.encoder.layers, model.language_model.decoder.layers",
    ):
        decoder_blocks(two_lists)


def test_the_users_path_is_taken(two_lists: PreTrainedModel) -> None:
    path = "model.language_model.decoder.layers"
    assert decoder_blocks(two_lists, path) == (path, two_lists.get_submodule(path))
    with pytest.raises(ConfigError, match=r"'model.layers' is none of .*decoder.layers"):
        decoder_blocks(two_lists, "model.layers")
