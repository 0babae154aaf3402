"""Arguments of vLLM for a test that asks it a few questions."""

from __future__ import annotations

from typing import Any


def quick_args(engine: str, max_model_len: int = 1024) -> dict[str, Any]:
    """Return engine arguments that leave out the compilation; none for another engine.

    To compile a tiny model takes 5 to 15 seconds. That pays where a test asks many questions, since
    each takes several times as long without; the conformance tests of the engines and the whole
    runs compile as users do.
    """
    if engine != "vllm":
        return {}
    return {"max_model_len": max_model_len, "enforce_eager": True}
