"""Self-Elicited Knowledge Distillation for vision-language models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from sekd.io.locations import Location
    from sekd.stages.predict.model import Model

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(
    run_or_model: str | Location,
    *,
    adapter: str | Path | None = None,
    taxonomy: str | Path | None = None,
    level_names: Sequence[str] = (),
    stepwise: bool | None = None,
    top_k: int = 1,
    rank: str | None = None,
    subtrees: Sequence[str] = (),
    only: str | Path | None = None,
    exclude: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Model:
    """Load a model that predicts the path of an image in a taxonomy.

        >>> import sekd
        >>> model = sekd.load("runs/birds")
        >>> predictions = model.predict(["a.jpg", "b.jpg"], min_confidence=0.8)
        >>> for prediction in predictions:
        ...     print(prediction.image, prediction.levels[0].rank, prediction.error)
        a.jpg order None
        b.jpg order None

    Args:
        run_or_model: a run's directory or config, an adapter that sekd trained, or a model: a
            directory or a Hugging Face id.
        adapter: directory of a PEFT adapter to answer with.
        taxonomy: a taxonomy of any format; that of the run or the adapter, if not given.
        level_names: the ranks of its levels, root first, where its file names none.
        stepwise: descend level by level; ``False`` names the whole path in a single pass; ``None``
            takes the single pass where the model's own files say that it learned it.
        top_k: number of most probable paths of each image.
        rank: name paths down to this rank only.
        subtrees: names of nodes; only leaves below one of them are predicted.
        only, exclude: files with names of what alone, or what not, is predicted.
        settings: of the config, such as ``{"evaluate.engine": "vllm"}``.

    Raises:
        sekd.errors.ConfigError: if there is no model or no taxonomy, or a file is wrong.
    """
    from sekd.stages.predict.model import load_model_of

    return load_model_of(
        run_or_model,
        settings or {},
        adapter=adapter,
        taxonomy=taxonomy,
        level_names=level_names,
        is_stepwise=stepwise,
        num_paths=top_k,
        last_rank=rank,
        subtrees=subtrees,
        only=only,
        exclude=exclude,
    )
