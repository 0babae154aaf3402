"""What a benchmark's figures depend on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sekd.config import RunConfig
from sekd.io.hashing import hash_directory

BENCHMARK_VERSION = 1
"""Part of the fingerprint: raise it when the same input would give other figures."""

_OWN = {"limit", "model", "model_args", "num_fewshot", "batch_size", "seed"}


def benchmark_fields(
    config: RunConfig,
    task: str,
    model_identity: Mapping[str, Any],
    adapter: Path | None,
    versions: Mapping[str, str],
) -> dict[str, Any]:
    """Everything that one model's figures on one task depend on: hashed, it is their fingerprint.

    The batch size is in it, unlike elsewhere: lmms-eval's classes do not promise the same replies
    at any. The data that lmms-eval fetches is not: nothing names its content.
    """
    spec = config.benchmark
    own_tasks = hash_directory(spec.include_path) if spec.include_path else {}
    return {
        "stage": "benchmark",
        "version": BENCHMARK_VERSION,
        "spec": {"task": task, "benchmark": spec.model_dump(mode="json", include=_OWN)},
        "own_tasks": {
            path: sha256 for path, sha256 in own_tasks.items() if "__pycache__" not in path
        },
        "model": dict(model_identity),
        "adapter": hash_directory(adapter) if adapter else None,
        "versions": dict(versions),
    }
