"""The model card of an adapter: from which model and data it was trained, and how."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from sekd import __version__
from sekd.config import RunConfig
from sekd.models.wording import load_wording
from sekd.stages.distill.curves import CSV_NAME, PNG_NAME
from sekd.stages.distill.images import student_spec
from sekd.stages.distill.terms import TERMS

_INTRODUCTIONS = {
    "teacher": f"""\
A LoRA adapter trained with [sekd](https://arxiv.org/abs/2511.18415) {__version__}. The base model
was its own teacher: it answered the levels of a taxonomy one question at a time, and this adapter
learned to {{task}}. No human label was used for training.""",
    "truth": f"""\
A LoRA adapter trained with [sekd](https://arxiv.org/abs/2511.18415) {__version__} as a baseline. It
learned to {{task}} from the labels that the images came with, not from the base model's own
answers.""",
}
"""``distill.labels`` -> the card's first paragraph."""

_TASKS = {
    "quiz": "answer all levels of a taxonomy in one pass",
    "open": "name the path of an image through a taxonomy without options",
}
"""Format -> what is learned."""


def model_card(
    config: RunConfig, modules: Sequence[str], history: Sequence[Mapping[str, Any]]
) -> str:
    """Return the card as Markdown with Hugging Face metadata at its head.

    Args:
        modules: full paths of the adapted modules.
        history: the Trainer's log; the card shows its last entry with a loss.
    """
    last: Mapping[str, Any] = next((entry for entry in reversed(history) if "loss" in entry), {})
    columns = ("loss", *(term.name for term in TERMS))
    figures = "\n".join(f"| {name} | {last[name]:.4f} |" for name in columns if name in last)
    dataset = config.data[config.elicit.dataset]
    source = dataset.images or dataset.table
    teacher_adapter = " with an earlier student's adapter" if config.elicit.adapter else ""
    tasks = " and to ".join(_TASKS[name] for name in config.distill.formats)
    introduction = _INTRODUCTIONS[config.distill.labels].format(task=tasks)
    settings = yaml.safe_dump(
        config.distill.model_dump(mode="json", exclude={"runtime"}), sort_keys=False
    )
    processor_args = json.dumps(student_spec(config).processor_args)
    processor = (
        f"\n- Processor: load that of the model with the arguments `{processor_args}`"
        if processor_args != "{}"
        else ""
    )
    # vLLM does not serve DoRA adapters.
    vllm = "" if config.distill.lora.dora else " or as a LoRA adapter in vLLM"
    return f"""---
{_metadata(config.model.path)}---

# A taxonomy student of {config.model.path}

{introduction}

- Images: `{source}`; taxonomy: `{dataset.taxonomy}`
- Teacher: `{config.model.path}`{teacher_adapter}, {config.elicit.engine} engine{processor}
- Adapted: {len(modules)} linear layers of the language model; the vision tower is unchanged

<details><summary>The adapted layers</summary>

| module | blocks |
|---|---|
{_rows_by_name(modules)}

</details>

{_prompts(config)} Load it with `PeftModel.from_pretrained`{vllm}.

| term at the last logged step | value |
|---|---|
{figures}

![Loss and its terms over the training steps]({PNG_NAME})

All logged steps are in [{CSV_NAME}]({CSV_NAME}).

```yaml
{settings}```
"""


def _prompts(config: RunConfig) -> str:
    """Say which prompts the student answers, in the wording that it learned."""
    dataset = config.data[config.elicit.dataset]
    wording = load_wording(dataset.wording)
    joint = wording.write("joint", subject=dataset.subject, root="", questions="...")
    named = wording.write("open", subject=dataset.subject, ranks="RANKS")
    prompts = {"quiz": ("joint prompt", joint), "open": ("prompt of open naming", named)}
    known = [prompts[name] for name in config.distill.formats]
    return " Or ".join(
        f'{"use" if number else "Use"} it with sekd\'s {title} ("{" ".join(prompt.split())}").'
        for number, (title, prompt) in enumerate(known)
    )


def _metadata(base_model: str) -> str:
    """Return the YAML header that Hugging Face reads."""
    return yaml.safe_dump(
        {
            "base_model": base_model,
            "library_name": "peft",
            "pipeline_tag": "image-text-to-text",
            "tags": ["sekd", "self-distillation", "taxonomy", "lora"],
        }
    )


def _rows_by_name(modules: Sequence[str]) -> str:
    """Return one table row for each module name: ``<path>.*.mlp.up_proj`` and its blocks."""
    blocks: dict[str, list[int]] = defaultdict(list)
    for module in modules:
        path, number, name = re.split(r"\.(\d+)\.", module, maxsplit=1)
        blocks[f"{path}.*.{name}"].append(int(number))
    return "\n".join(f"| `{name}` | {_as_ranges(numbers)} |" for name, numbers in blocks.items())


def _as_ranges(numbers: Sequence[int]) -> str:
    """Shorten ascending numbers: 0, 1, 2, 3, 7 becomes ``0-3, 7``."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][-1] + 1:
            ranges[-1].append(number)
        else:
            ranges.append([number])
    return ", ".join(
        f"{group[0]}-{group[-1]}" if len(group) > 1 else str(group[0]) for group in ranges
    )
