"""Estimate the cost of an elicitation from a rehearsal: the real dialogues, without the model.

A few samples go through everything but the model: their images through its processor, every turn
through its chat template, the rows into files. A :class:`RehearsalEngine` answers for the teacher.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sekd.config import RunConfig
from sekd.data.samples import Dataset
from sekd.data.shards import Shard
from sekd.data.signals import ANSWERS, TRANSCRIPTS, TeacherShard
from sekd.engines import serves_adapters
from sekd.engines.rehearsal import RehearsalEngine
from sekd.errors import ConfigError
from sekd.models import loading
from sekd.models.adapters import adapted_spec
from sekd.models.chat import Chat, load_chat
from sekd.models.lora_targets import check_experts, find_targets
from sekd.models.probe import supports_prefix_reuse
from sekd.pipeline.status import run_status
from sekd.stages.distill.images import StudentImages, compare_images
from sekd.stages.elicit.answers import AnswersWorker
from sekd.stages.elicit.estimate_descents import (
    DescentCost,
    estimate_descents,
    with_assumed_labels,
)
from sekd.stages.elicit.run import elicited_dataset
from sekd.stages.elicit.states import longest_first
from sekd.stages.readiness import check_later_stages
from sekd.stages.similar import with_similar

NUM_PROBED = 32
"""The largest number of samples that are rehearsed."""
_NUM_LISTED_UNUSABLE = 3


@dataclass(frozen=True)
class CostEstimate:
    """Sums over all samples, extrapolated from the samples that were probed.

    Attributes:
        num_unusable: samples that will be quarantined, in proportion to the probe.
        unusable: the first few of these in the probe, each with its reason.
        num_answers: questions that the teacher is asked.
        num_prompt_tokens: prompt tokens over all turns, images included.
        num_tokens: those that the engine computes. That are all of them where the model cannot
            continue its cache (sliding windows, recurrent layers, cross attention).
        num_state_tokens: tokens that the state pass computes: those of the finished dialogues.
        num_bytes: size of the files that will be written.
        flops: floating-point operations of both passes: 2 per parameter and token.
    """

    num_samples: int
    num_probed: int
    num_unusable: int
    num_answers: int
    num_prompt_tokens: int
    num_tokens: int
    num_state_tokens: int
    num_bytes: int
    flops: float
    unusable: Sequence[str] = ()


@dataclass(frozen=True)
class AdapterPlan:
    """The layers that the student's adapter will change, and those that stay frozen.

    Attributes:
        layers: last parts of the names of the adapted layers.
        num_layers: their number.
        num_parameters: the adapter's parameters, all of them trainable.
        frozen_share: share of the weights of the language model's blocks, in [0, 1], that no
            adapter changes.
        frozen_experts: tensors of experts that are not adapted, by the names by which
            ``distill.lora.target_modules`` could take them.
        unquantised: tensors of experts that ``distill.lora.load_in_4bit`` leaves as they are.
        is_served: whether ``evaluate.engine`` serves adapters on this model; ``None`` if it is not
            installed here.
    """

    layers: list[str]
    num_layers: int
    num_parameters: int
    frozen_share: float
    frozen_experts: list[str]
    unquantised: list[str]
    is_served: bool | None
    images: StudentImages | None


@dataclass(frozen=True)
class ElicitationPlan:
    """The estimated cost and duration of an elicitation, and the adapter to be trained on it.

    Attributes:
        hours: of all workers together, divided by their number.
        hours_basis: what the hours follow from, as words that go after them.
        descents: the cost of the descents that give the labels; ``None`` if the dataset has some.
    """

    cost: CostEstimate
    num_shards: int
    num_workers: int
    hours: float
    hours_basis: str
    adapter: AdapterPlan
    descents: DescentCost | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what ``sekd plan --json`` prints."""
        return {
            "num_shards": self.num_shards,
            **asdict(self.cost),
            "num_workers": self.num_workers,
            "hours": self.hours,
            "hours_basis": self.hours_basis,
            "adapter": asdict(self.adapter),
            "descents": None if self.descents is None else asdict(self.descents),
        }


def plan_elicitation(config: RunConfig, *, tflops: float) -> ElicitationPlan:
    """Estimate the cost and the duration of an elicitation.

    If both stages have shards that are done, the hours follow from their measured rate.

    Args:
        tflops: TFLOP/s of one worker; used as long as no rate was measured.

    Raises:
        ConfigError: as :func:`estimate_cost`.
    """
    name, runtime = config.elicit.dataset, config.elicit.runtime
    check_later_stages(config)
    dataset = elicited_dataset(config)
    stages, descents = ["answers", "states"], None
    if dataset.spec.options == "children":
        stages.append(f"descents/{name}")
        descents = _estimate_descents(config, dataset)
        dataset = with_assumed_labels(dataset)
    cost = estimate_cost(config, with_similar(dataset))
    if descents is not None:
        per_token = 2.0 * loading.meta_model(config.model).num_parameters()
        cost = replace(cost, flops=cost.flops + per_token * descents.num_tokens)
    rates = {
        stage.name: stage.rate
        for stage in run_status(config.run_dir)
        if stage.name in stages and stage.rate
    }
    if len(rates) == len(stages):
        seconds = sum(cost.num_samples / rate for rate in rates.values())
        basis = "at the rate of the shards that are done"
    else:
        seconds, basis = cost.flops / (tflops * 1e12), f"at {tflops:g} TFLOP/s a worker (--tflops)"
    num_workers = 1 if runtime.executor == "inline" else runtime.workers
    return ElicitationPlan(
        cost=cost,
        num_shards=math.ceil(cost.num_samples / runtime.shard_size),
        num_workers=num_workers,
        hours=seconds / 3600 / num_workers,
        hours_basis=basis,
        adapter=plan_adapter(config),
        descents=descents,
    )


def _estimate_descents(config: RunConfig, dataset: Dataset) -> DescentCost:
    chat = load_chat(
        adapted_spec(config.model, config.elicit.adapter),
        subject=dataset.spec.subject,
        wording=dataset.spec.wording,
        answer=config.elicit.answer,
    )
    cost = estimate_descents(
        config, with_assumed_labels(dataset), _rehearsal_engine(config, chat), NUM_PROBED
    )
    return replace(cost, is_over_leaves=dataset.samples.leaves.null_count > 0)


def _rehearsal_engine(config: RunConfig, chat: Chat) -> RehearsalEngine:
    # vLLM has caches for other layers, too; where it cannot use one, the plan is too low.
    model = loading.meta_model(config.model)
    reuses = config.elicit.engine == "vllm" or supports_prefix_reuse(model.config)
    return RehearsalEngine(chat, supports_prefix_reuse=reuses)


def plan_adapter(config: RunConfig) -> AdapterPlan:
    """Find what the adapter of ``distill.lora`` will change; no weight is loaded.

    Raises:
        ConfigError: if a layer that is named is not there, or cannot be adapted or quantised with
            these settings.
    """
    model, lora = loading.meta_model(config.model), config.distill.lora
    targets = find_targets(model, lora.target_modules, config.model.decoder_blocks)
    check_experts(targets, lora)
    if lora.load_in_4bit:
        loading.check_4bit(config.model)
    experts = [*targets.frozen_experts, *targets.expert_names]
    return AdapterPlan(
        layers=targets.names,
        num_layers=len(targets.modules) + len(targets.experts),
        num_parameters=targets.num_trainable(lora),
        frozen_share=targets.frozen_share,
        frozen_experts=list(targets.frozen_experts),
        unquantised=experts if lora.load_in_4bit else [],
        is_served=serves_adapters(config.evaluate.engine, config.model),
        images=compare_images(config),
    )


def estimate_cost(config: RunConfig, dataset: Dataset) -> CostEstimate:
    """Rehearse evenly spread samples and extrapolate; only temporary files are written.

    Raises:
        ConfigError: if none of the probed samples can be used, or elicitation itself raises one.
    """
    num_samples = len(dataset.samples)
    step = max(1, num_samples // NUM_PROBED)
    probe = replace(dataset, samples=dataset.samples[::step][:NUM_PROBED])
    spec = config.elicit.model_copy(update={"max_quarantined": 1.0})
    chat = load_chat(
        adapted_spec(config.model, spec.adapter),
        subject=dataset.spec.subject,
        wording=dataset.spec.wording,
        answer=config.elicit.answer,
    )
    probe_config = config.model_copy(update={"elicit": spec})
    model = loading.meta_model(config.model)
    engine = _rehearsal_engine(config, chat)
    worker = AnswersWorker(probe_config, probe, engine=engine)
    shard = Shard(0, tuple(sample.id for sample in probe.samples))
    with tempfile.TemporaryDirectory() as folder:
        result = worker.process(shard, Path(folder), lambda _: None)
        num_state_tokens = _count_state_tokens(result.files, engine)
        num_bytes = sum(path.stat().st_size for path in result.files.values())
    if not result.num_done:
        raise ConfigError(
            f"data.{dataset.name}: none of {len(probe.samples)} samples can be used; the first is "
            f"{result.quarantined[0].sample_id}: {result.quarantined[0].reason}"
        )
    num_prompt_tokens = result.stats["num_prompt_tokens"]
    num_tokens = num_prompt_tokens - result.stats["num_cached_tokens"]
    num_answers = result.stats["num_answers"]
    hidden_size = model.config.get_text_config().hidden_size
    state_bytes = getattr(torch, config.elicit.state_dtype).itemsize * hidden_size
    num_bytes += num_answers * len(config.elicit.layers) * state_bytes
    factor = num_samples / len(probe.samples)
    return CostEstimate(
        num_samples=num_samples,
        num_probed=len(probe.samples),
        num_unusable=round(len(result.quarantined) * factor),
        num_answers=round(num_answers * factor),
        num_prompt_tokens=round(num_prompt_tokens * factor),
        num_tokens=round(num_tokens * factor),
        num_state_tokens=round(num_state_tokens * factor),
        num_bytes=round(num_bytes * factor),
        flops=2.0 * model.num_parameters() * (num_tokens + num_state_tokens) * factor,
        unusable=[
            f"{sample.sample_id}: {sample.reason}"
            for sample in result.quarantined[:_NUM_LISTED_UNUSABLE]
        ],
    )


def _count_state_tokens(files: Mapping[str, Path], engine: RehearsalEngine) -> int:
    """Count the tokens of the transcripts with answers, images expanded."""
    shard = TeacherShard(files[TRANSCRIPTS], files[ANSWERS])
    return sum(
        len(row.token_ids) + engine.image_shifts[row.sample.image_sha256]
        for row in longest_first(list(shard))
    )
