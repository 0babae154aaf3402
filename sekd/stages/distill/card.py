"""The model card of a student: from which model and data it was made, and how well it does."""

from __future__ import annotations

import json
import platform
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData, metadata_load

from sekd import __version__
from sekd.config import ModelSpec, RunConfig
from sekd.models.loading import model_directory
from sekd.models.wording import load_wording
from sekd.stages.distill.curves import CSV_NAME, PNG_NAME
from sekd.stages.distill.images import student_spec
from sekd.stages.distill.terms import TERMS

CARD = "README.md"

_INTRODUCTIONS = {
    "teacher": f"""\
{{kind}} trained with [sekd](https://arxiv.org/abs/2511.18415) {__version__}. The base model
was its own teacher: it answered the levels of a taxonomy one question at a time, and this {{noun}}
learned to {{task}}. No human label was used for training.""",
    "truth": f"""\
{{kind}} trained with [sekd](https://arxiv.org/abs/2511.18415) {__version__} as a baseline. It
learned to {{task}} from the labels that the images came with, not from the base model's own
answers.""",
}
"""``distill.labels`` -> the card's first paragraph."""

_TASKS = {
    "quiz": "answer all levels of a taxonomy in one pass",
    "open": "name the path of an image through a taxonomy without options",
}
"""Format -> what is learned."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Facts for the card of a student that is exported.

    Attributes:
        results: rates of the student, as the hub shows them.
        cells: table of all results with their intervals, as Markdown; empty if none were measured.
        controls: the same of its controls.
        calibration: on what the probabilities were calibrated; empty if they were not.
        licence: in place of the base model's.
        taxonomy: the size and ranks of the taxonomy.
        hashes: name of a thing -> the SHA-256 that identifies it.
        is_merged: the weights are a whole model.
    """

    results: Sequence[EvalResult] = ()
    cells: str = ""
    controls: str = ""
    calibration: str = ""
    licence: str | None = None
    taxonomy: str = ""
    hashes: Mapping[str, str] = field(default_factory=dict)
    is_merged: bool = False


def model_card(
    config: RunConfig,
    modules: Sequence[str],
    history: Sequence[Mapping[str, Any]],
    evidence: Evidence | None = None,
) -> str:
    """Return the card as Markdown with the metadata of the Hugging Face hub at its head.

    Args:
        modules: full paths of the adapted modules.
        history: the Trainer's log; the card shows its last entry with a loss.
        evidence: of a student that goes out of its run.
    """
    evidence = evidence or Evidence()
    last: Mapping[str, Any] = next((entry for entry in reversed(history) if "loss" in entry), {})
    columns = ("loss", *(term.name for term in TERMS))
    dataset = config.data[config.elicit.dataset]
    processor_args = student_spec(config).processor_args
    on_hub = hub_name(config.model)
    base = on_hub or Path(config.model.path).name
    licence = evidence.licence or base_licence(config.model)
    template = files("sekd.stages.distill").joinpath("card.md.jinja").read_text("utf-8")
    card = ModelCard.from_template(
        _metadata(base, on_hub, licence, evidence),
        template_str=template,
        base=base,
        introduction=_introduction(config, is_merged=evidence.is_merged),
        evidence=evidence,
        prompts=_prompts(config),
        processor_args=json.dumps(processor_args) if processor_args else "",
        serves_vllm=not config.distill.lora.dora,  # vLLM does not serve DoRA adapters
        images=dataset.images or dataset.table,
        taxonomy=evidence.taxonomy or f"`{dataset.taxonomy}`",
        teacher="an earlier student's adapter" if config.elicit.adapter else "",
        engine=config.elicit.engine,
        num_modules=len(modules),
        licence=licence or "not known; that of the base model binds whoever uses this one",
        versions=_versions(),
        module_rows=_rows_by_name(modules),
        losses="\n".join(f"| {name} | {last[name]:.4f} |" for name in columns if name in last),
        csv_name=CSV_NAME,
        png_name=PNG_NAME,
        settings=yaml.safe_dump(
            config.distill.model_dump(mode="json", exclude={"runtime"}), sort_keys=False
        ),
    )
    return re.sub(r"\n{3,}", "\n\n", str(card.content))


def hub_name(spec: ModelSpec) -> str | None:
    """Return the Hugging Face id of a model; ``None`` for a directory outside of the cache."""
    cached = re.search(r"models--(.+?)--([^/]+)", spec.path)
    if cached:
        return "/".join(cached.groups())
    return None if Path(spec.path).is_dir() else spec.path


def base_licence(spec: ModelSpec) -> str | None:
    """Return the licence that the model's own card names; ``None`` if none is there."""
    card = model_directory(spec) / CARD
    data = metadata_load(card) if card.is_file() else None
    licence = (data or {}).get("license")
    return None if licence is None else str(licence)


def _metadata(
    base: str, base_on_hub: str | None, licence: str | None, evidence: Evidence
) -> ModelCardData:
    return ModelCardData(
        base_model=base_on_hub,
        base_model_relation="finetune" if evidence.is_merged else "adapter",
        library_name="transformers" if evidence.is_merged else "peft",
        pipeline_tag="image-text-to-text",
        license=licence,
        tags=["sekd", "self-distillation", "taxonomy", "lora"],
        model_name=f"A taxonomy student of {base}" if evidence.results else None,
        eval_results=[*evidence.results] or None,
    )


def _introduction(config: RunConfig, *, is_merged: bool) -> str:
    tasks = " and to ".join(_TASKS[name] for name in config.distill.formats)
    kind, noun = ("A model", "model") if is_merged else ("A LoRA adapter", "adapter")
    return _INTRODUCTIONS[config.distill.labels].format(kind=kind, noun=noun, task=tasks)


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


def _versions() -> str:
    names = ("torch", "transformers", "peft")
    libraries = [f"{name} {metadata.version(name)}" for name in names]
    return ", ".join([f"sekd {__version__}", *libraries, f"Python {platform.python_version()}"])


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
