"""Embed names and images with a checkpoint: CLIP, SigLIP and the like, or a text encoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from sekd.config import ModelSpec
from sekd.errors import ConfigError, in_one_line
from sekd.io.faults import retry
from sekd.models.loading import free_memory, model_directory

_BATCH_SIZE = 64

# Shapes: N texts or images, L tokens, D dimensions.


class Embedder:
    """A model that embeds texts, and images if it is an image-text model, as unit vectors.

    An image-text model embeds a text as its ``get_text_features`` does. Of a text encoder the mean
    of the last states counts, as in sentence-transformers.

    Args:
        path: a directory, or a Hugging Face id of a model that was downloaded already.

    Raises:
        ConfigError: if there is no such model, or it is none that embeds texts.
    """

    def __init__(self, path: str) -> None:
        self._directory = model_directory(ModelSpec(path=path))
        try:
            self._model: Any = retry(
                lambda: AutoModel.from_pretrained(self._directory).eval(), self._directory
            )
            self._tokenizer = AutoTokenizer.from_pretrained(self._directory)
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(
                f"{self._directory}: cannot load a model that embeds texts: "
                f"{in_one_line(error, limit=300)}"
            ) from error
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model.to(self._device)
        self._is_image_text = hasattr(self._model, "get_text_features")
        self._image_processor: Any = None

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Embed texts; float32[N, D]."""
        rows = []
        for part in _batches(texts):
            inputs = self._tokenizer(
                list(part),
                # SigLIP was trained with all texts of one length, which its tokenizer knows.
                padding="max_length" if self._needs_full_length else True,
                truncation=True,
                return_tensors="pt",
            ).to(self._device)
            if self._is_image_text:
                rows.append(_pooled(self._model.get_text_features(**inputs)))
                continue
            states_NLD = self._model(**inputs).last_hidden_state
            mask_NL1 = inputs["attention_mask"].unsqueeze(-1).to(states_NLD.dtype)
            rows.append((states_NLD * mask_NL1).sum(1) / mask_NL1.sum(1))
        return _unit_vectors(torch.cat(rows))

    @torch.inference_mode()
    def embed_images(self, images: Sequence[Image.Image]) -> npt.NDArray[np.float32]:
        """Embed images; float32[N, D].

        Raises:
            ConfigError: if the model takes no images.
        """
        if self._image_processor is None:
            if not hasattr(self._model, "get_image_features"):
                raise ConfigError(
                    f"{self._directory}: takes no images; set similar.by: name, or take an "
                    "image-text model such as SigLIP"
                )
            self._image_processor = AutoImageProcessor.from_pretrained(self._directory)
        inputs = self._image_processor(images=list(images), return_tensors="pt").to(self._device)
        return _unit_vectors(_pooled(self._model.get_image_features(**inputs)))

    def close(self) -> None:
        """Free the model."""
        del self._model
        free_memory()

    @property
    def _needs_full_length(self) -> bool:
        return str(self._model.config.model_type).startswith("siglip")


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(texts), _BATCH_SIZE):
        yield texts[start : start + _BATCH_SIZE]


def _pooled(features: Any) -> Tensor:
    """Return the vectors themselves: older versions of transformers return nothing else."""
    pooled: Tensor = features if isinstance(features, Tensor) else features.pooler_output
    return pooled


def _unit_vectors(vectors_ND: Tensor) -> npt.NDArray[np.float32]:
    unit: npt.NDArray[np.float32] = torch.nn.functional.normalize(vectors_ND.float()).cpu().numpy()
    return unit
