"""Models of the gallery as directories, each written once per run of the tests."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from functools import cache
from pathlib import Path

import pytest

from sekd.config import DType, ModelSpec

_ROOT = tempfile.TemporaryDirectory(prefix="sekd-gallery-")


FAMILY_NAMES = (
    *("qwen2-vl", "qwen2.5-vl", "qwen3-vl", "qwen3-vl-moe", "qwen3.5", "qwen3.5-moe", "glm-4v"),
    *("glm-4.6v", "pixtral", "mistral3", "lfm2-vl", "kimi-k2.5", "muse-glimmer", "llava"),
    *("vip-llava", "llava-next", "granite-vision", "granite4-vision", "llava-onevision"),
    *("internvl", "aya-vision", "cohere2-vision", "idefics2", "idefics3", "smolvlm", "ovis2"),
    *("gemma3", "gemma4", "paligemma", "paligemma2", "mllama", "llama4", "deepseek-vl", "aria"),
    "ernie4.5-vl",
)
"""Names of all families. They stand here too, because the builders import transformers."""

READS_BOTH_WAYS = ("paligemma", "paligemma2")
"""Families that are refused, because they are not causal."""
RUNS_ALL = bool(os.environ.get("SEKD_ALL_FAMILIES"))
"""Whether tests of the gallery take all families (`make test-gallery`) instead of a few."""


def gallery_spec(name: str, dtype: DType = "float32") -> ModelSpec:
    """Return a family's model; skips where a package that it is built from is not installed."""
    pytest.importorskip("torchvision", exc_type=RuntimeError)
    if name == "smolvlm" and importlib.util.find_spec("num2words") is None:
        pytest.skip("num2words not installed")
    try:
        return ModelSpec(path=str(_saved(name)), dtype=dtype)
    except FileNotFoundError as error:
        pytest.skip(str(error))


@cache
def _saved(name: str) -> Path:
    from gallery_families import FAMILIES

    family = next(family for family in FAMILIES if family.name == name)
    folder = Path(_ROOT.name) / name
    folder.mkdir()
    return family.save(folder)
