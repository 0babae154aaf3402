"""Arguments of vLLM for the models of the tests."""

from __future__ import annotations

from typing import Any


def vllm_args(
    engine: str, max_model_len: int = 1024, *, is_compiled: bool = False
) -> dict[str, Any]:
    """Return engine arguments for a tiny model; none for another engine than vLLM.

    To compile a tiny model takes 5 to 15 seconds. That pays where a test asks many questions, since
    each takes several times as long without; the conformance tests of the engines and the whole
    runs compile as users do.
    """
    if engine != "vllm":
        return {}
    args: dict[str, Any] = {"max_model_len": max_model_len}
    return args if is_compiled else args | {"enforce_eager": True}
