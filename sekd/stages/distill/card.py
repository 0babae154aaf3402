"""The model card that goes with an adapter: what it was made from, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from sekd import __version__
from sekd.config import RunConfig
from sekd.stages.distill.curves import CSV_NAME, PNG_NAME
from sekd.stages.distill.objective import TERMS


def model_card(
    config: RunConfig, modules: Sequence[str], history: Sequence[Mapping[str, Any]]
) -> str:
    """Markdown with Hugging Face metadata at its head.

    Args:
        modules: paths of the adapted modules.
        history: the Trainer's log; its last line with terms is shown.
    """
    header = yaml.safe_dump(
        {
            "base_model": config.model.path,
            "library_name": "peft",
            "pipeline_tag": "image-text-to-text",
            "tags": ["sekd", "self-distillation", "taxonomy", "lora"],
        }
    )
    last: Mapping[str, Any] = next((line for line in reversed(history) if "loss" in line), {})
    terms = ("loss", *TERMS)
    figures = "\n".join(f"| {term} | {last[term]:.4f} |" for term in terms if term in last)
    dataset = config.data[config.elicit.dataset]
    source = dataset.images or dataset.table
    settings = yaml.safe_dump(
        config.distill.model_dump(mode="json", exclude={"runtime"}), sort_keys=False
    )
    return f"""---
{header}---

# A taxonomy student of {config.model.path}

A LoRA adapter made by [sekd](https://arxiv.org/abs/2511.18415) {__version__}: the base model walked
a taxonomy one question at a time as its own teacher, and this adapter learned to answer all levels
in one pass. No human label was trained on.

- Images: `{source}`; taxonomy: `{dataset.taxonomy}`
- Teacher: `{config.model.path}`, {config.elicit.engine} engine
- Adapted: {len(modules)} linear layers of the language model, `{modules[0]}` to `{modules[-1]}`

Use it with the joint prompt of sekd ("You are a taxonomist. Answer the following multiple-choice
questions ..."), through `PeftModel.from_pretrained` or as a LoRA of vLLM.

| training, last logged step | |
|---|---|
{figures}

![Loss and terms over the steps of the training]({PNG_NAME})

Every logged step is in [{CSV_NAME}]({CSV_NAME}).

```yaml
{settings}```
"""
