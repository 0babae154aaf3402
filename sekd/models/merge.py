"""The student as a model of its own: the adapter's weights added to the base's."""

from __future__ import annotations

import logging
import shutil
from importlib import metadata
from pathlib import Path

from peft import PeftModel

from sekd.config import ModelSpec
from sekd.io.files import replace_atomically
from sekd.io.hashing import digest, hash_directory
from sekd.io.locations import cache_directory
from sekd.models import loading

logger = logging.getLogger(__name__)

MERGE_VERSION = 1
"""Part of the copy's name: raise it when the same model and adapter would give another copy."""

_WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".gguf", ".onnx"}


def merged_model(spec: ModelSpec, adapter: Path) -> Path:
    """A directory with the base's files, all but the weights untouched, and the merged weights.

    It is made once, on the CPU, in the cache, under a name made from the content of both. The sum
    is rounded to ``spec.dtype``, so in half precision the copy is not bit for bit the student.

    Raises:
        ConfigError: if the base cannot be loaded.
    """
    content = {
        "version": MERGE_VERSION,
        "peft": metadata.version("peft"),
        "model": loading.model_identity(spec),
        "adapter": hash_directory(adapter),
    }
    folder = cache_directory() / "merged" / digest(content)[:16]
    if folder.is_dir():
        return folder
    logger.info("merging the adapter into a copy of the base: %s", folder)
    try:
        with replace_atomically(folder) as temporary:
            student = PeftModel.from_pretrained(loading.load_model(spec, "cpu"), str(adapter))
            student.merge_and_unload(safe_merge=True).save_pretrained(temporary)
            # What transformers writes beside the weights is not the base's: its generation settings
            # were set aside on loading, and other programs may read an older config differently.
            base = loading.model_directory(spec)
            shutil.copytree(base, temporary, ignore=_ignore_weights, dirs_exist_ok=True)
    except OSError:
        if not folder.is_dir():  # else another process was faster
            raise
    finally:
        loading.free_memory()
    return folder


def _ignore_weights(directory: str, names: list[str]) -> set[str]:
    return {
        name
        for name in names
        if name.startswith(".")
        or Path(name).suffix in _WEIGHTS
        or name.endswith(tuple(f"{suffix}.index.json" for suffix in _WEIGHTS))
    }
