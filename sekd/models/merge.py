"""Merge an adapter into a copy of its base model."""

from __future__ import annotations

import logging
import shutil
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers.utils import IMAGE_PROCESSOR_NAME, PROCESSOR_NAME

from sekd.config import ModelSpec
from sekd.errors import ConfigError, in_one_line
from sekd.io.files import replace_atomically
from sekd.io.folders import publish_folder, reuse_folder
from sekd.io.hashing import digest
from sekd.io.locations import cache_directory
from sekd.models import loading
from sekd.models.adapters import (
    adapted_spec,
    adapter_identity,
    load_adapter,
    read_processor_args,
)
from sekd.models.weights import WEIGHT_SUFFIXES

logger = logging.getLogger(__name__)

MERGE_VERSION = 2
"""Part of the copy's name: raise it when the same model and adapter would give another copy."""


def merged_model(spec: ModelSpec, adapter: Path) -> Path:
    """Return a directory with the merged weights and the base's other files, unchanged.

    Where the adapter was trained with processor arguments of its own, the settings of the processor
    are not the base's but those, and the copy is loaded without arguments.

    It is made once, on the CPU, in the cache; its name is a hash of the content of base and
    adapter. The sum is rounded to ``spec.dtype``, so in half precision the copy is not bit for bit
    the student.

    Raises:
        ConfigError: if the base cannot be loaded, or is a checkpoint that is quantised already; or
            the adapter does not fit it, changes nothing, or gives weights that are not finite; or
            the processor's files do not hold its arguments.
    """
    method = loading.quantisation(loading.load_model_config(spec))
    if method:
        raise ConfigError(
            f"{loading.model_directory(spec)}: no adapter can be merged into weights that are "
            f"quantised ({method}); merge it into the checkpoint before its quantisation"
        )
    identity = {
        "version": MERGE_VERSION,
        "peft": metadata.version("peft"),
        "model": loading.model_identity(spec),
        "adapter": adapter_identity(adapter, "the student"),
    }
    copies, name = cache_directory() / "merged", digest(identity)[:16]
    folder = copies / name
    if reuse_folder(copies, name) is not None:
        return folder
    logger.info("merging the adapter into a copy of the base: %s", folder)
    try:
        with replace_atomically(folder) as temporary:
            student = load_adapter(loading.load_model(spec, "cpu"), adapter)
            student.merge_and_unload(safe_merge=True).save_pretrained(temporary)
            # The base's files replace those that transformers writes beside the weights: load_model
            # drops generation settings, and other programs may read a rewritten config differently.
            base = loading.model_directory(spec)
            shutil.copytree(base, temporary, ignore=_ignore_weights, dirs_exist_ok=True)
            if read_processor_args(adapter) is not None:
                write_processor(adapted_spec(spec, adapter), temporary)
    except ValueError as error:
        raise ConfigError(
            f"{adapter}: cannot be merged: {in_one_line(error, limit=300)}"
        ) from error
    except OSError:
        if not folder.is_dir():  # otherwise another process was faster
            raise
    finally:
        loading.free_memory()
    return publish_folder(copies, copies, name)


def write_processor(spec: ModelSpec, folder: Path) -> None:
    """Write the settings of the model's processor into a folder that holds a copy of the model.

    The tokenizer's files stay as they are.

    Raises:
        ConfigError: if a processor that is loaded from there is another one.
    """
    processor = loading.load_processor(spec)
    with TemporaryDirectory() as scratch:
        processor.save_pretrained(scratch)
        processor.image_processor.save_pretrained(scratch)
        for name in (PROCESSOR_NAME, IMAGE_PROCESSOR_NAME):
            written = Path(scratch, name)
            if written.is_file():
                shutil.copyfile(written, folder / name)
    copy = loading.load_processor(
        spec.model_copy(update={"path": str(folder), "revision": None, "processor_args": {}})
    )
    if copy.to_json_string() != processor.to_json_string():
        raise ConfigError(
            f"{loading.model_directory(spec)}: its processor cannot be saved with the arguments "
            f"{spec.processor_args} of the adapter; load the base with them instead"
        )


def _ignore_weights(directory: str, names: list[str]) -> set[str]:
    """Name the hidden files and weight files of a directory, for ``shutil.copytree``."""
    return {
        name
        for name in names
        if name.startswith(".")
        or Path(name).suffix in WEIGHT_SUFFIXES
        or name.endswith(tuple(f"{suffix}.index.json" for suffix in WEIGHT_SUFFIXES))
    }
