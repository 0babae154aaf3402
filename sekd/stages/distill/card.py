"""The model card that goes with an adapter: what it was made from, and how."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import yaml

from sekd import __version__
from sekd.config import RunConfig
from sekd.stages.distill.curves import CSV_NAME, PNG_NAME
from sekd.stages.distill.objective import TERMS

_MADE = {
    "teacher": f"""\
A LoRA adapter made by [sekd](https://arxiv.org/abs/2511.18415) {__version__}: the base model walked
a taxonomy one question at a time as its own teacher, and this adapter learned to answer all levels
in one pass. No human label was trained on.""",
    "truth": f"""\
A LoRA adapter made by [sekd](https://arxiv.org/abs/2511.18415) {__version__} as a baseline: it
learned to answer all levels of a taxonomy in one pass from the labels that the images came with,
not from the base model's own walk.""",
}
_SERVED = " or as a LoRA of vLLM"


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
    adapter = ", with an earlier student's adapter on" if config.elicit.adapter else ""
    settings = yaml.safe_dump(
        config.distill.model_dump(mode="json", exclude={"runtime"}), sort_keys=False
    )
    lora = config.distill.lora
    return f"""---
{header}---

# A taxonomy student of {config.model.path}

{_MADE[config.distill.labels]}

- Images: `{source}`; taxonomy: `{dataset.taxonomy}`
- Teacher: `{config.model.path}`{adapter}, {config.elicit.engine} engine
- Adapted: {len(modules)} linear layers of the language model, nothing of what sees the image

<details><summary>The adapted layers</summary>

| module | blocks |
|---|---|
{_by_block(modules)}

</details>

Use it with the joint prompt of sekd ("You are a taxonomist. Answer the following multiple-choice
questions ..."), through `PeftModel.from_pretrained`{_SERVED if not lora.dora else ""}.

| training, last logged step | |
|---|---|
{figures}

![Loss and terms over the steps of the training]({PNG_NAME})

Every logged step is in [{CSV_NAME}]({CSV_NAME}).

```yaml
{settings}```
"""


def _by_block(modules: Sequence[str]) -> str:
    """A row for each name below the blocks: ``<path>.*.mlp.up_proj`` and the numbers of blocks."""
    blocks: dict[str, list[int]] = defaultdict(list)
    for module in modules:
        path, number, name = re.split(r"\.(\d+)\.", module, maxsplit=1)
        blocks[f"{path}.*.{name}"].append(int(number))
    return "\n".join(f"| `{name}` | {_ranges(numbers)} |" for name, numbers in blocks.items())


def _ranges(numbers: Sequence[int]) -> str:
    """``0-3, 7`` of 0, 1, 2, 3, 7."""
    starts = [numbers[0], *(after for before, after in pairwise(numbers) if after != before + 1)]
    ends = [*(before for before, after in pairwise(numbers) if after != before + 1), numbers[-1]]
    pairs = zip(starts, ends, strict=True)
    return ", ".join(f"{start}-{end}" if start < end else f"{start}" for start, end in pairs)
