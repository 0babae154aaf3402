"""Estimate the cost of an elicitation from a rehearsal: the real dialogues, without the model.

A few samples go through everything but the model: their images through its processor, every turn
through its chat template, the rows into files. A :class:`RehearsalEngine` answers for the teacher.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sekd.config import RunConfig
from sekd.data.samples import Dataset
from sekd.data.shards import Shard
from sekd.engines.rehearsal import RehearsalEngine
from sekd.errors import ConfigError
from sekd.models import loading
from sekd.models.chat import load_chat
from sekd.pipeline.status import run_status
from sekd.stages.elicit.answers import AnswersWorker

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
        num_tokens: tokens of the finished dialogues, images included. An engine with a prefix cache
            computes them once, and the state pass computes them once more.
        num_prompt_tokens: prompt tokens over all turns, which an engine without a prefix cache
            computes.
        num_bytes: size of the files that will be written.
        flops: floating-point operations of both passes: 2 per parameter and token.
    """

    num_samples: int
    num_probed: int
    num_unusable: int
    num_answers: int
    num_tokens: int
    num_prompt_tokens: int
    num_bytes: int
    flops: float
    unusable: Sequence[str] = ()


@dataclass(frozen=True)
class ElicitationPlan:
    """The estimated cost and duration of an elicitation.

    Attributes:
        hours: of all workers together, divided by their number.
        hours_basis: what the hours follow from, as words that go after them.
    """

    cost: CostEstimate
    num_shards: int
    num_workers: int
    hours: float
    hours_basis: str

    def to_json(self) -> dict[str, Any]:
        """Return what ``sekd plan --json`` prints."""
        return {
            "num_shards": self.num_shards,
            **asdict(self.cost),
            "num_workers": self.num_workers,
            "hours": self.hours,
            "hours_basis": self.hours_basis,
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
    cost = estimate_cost(config, Dataset.load(name, config.dataset(name, "elicit.dataset")))
    rates = {
        stage.name: stage.rate
        for stage in run_status(config.run_dir)
        if stage.name in ("answers", "states") and stage.rate
    }
    if len(rates) == 2:
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
        config.model,
        subject=dataset.spec.subject,
        answer=config.elicit.answer,
    )
    probe_config = config.model_copy(update={"elicit": spec})
    worker = AnswersWorker(probe_config, probe, engine=RehearsalEngine(chat))
    shard = Shard(0, tuple(sample.id for sample in probe.samples))
    with tempfile.TemporaryDirectory() as folder:
        result = worker.process(shard, Path(folder), lambda _: None)
        num_bytes = sum(path.stat().st_size for path in result.files.values())
    if not result.num_done:
        raise ConfigError(
            f"data.{dataset.name}: none of {len(probe.samples)} samples can be used; the first is "
            f"{result.quarantined[0].sample_id}: {result.quarantined[0].reason}"
        )
    num_prompt_tokens = result.stats["num_prompt_tokens"]
    num_tokens = num_prompt_tokens - result.stats["num_cached_tokens"]
    num_answers = result.stats["num_answers"]
    hidden_size, num_parameters = _model_size(config)
    state_bytes = getattr(torch, config.elicit.state_dtype).itemsize * hidden_size
    num_bytes += num_answers * len(config.elicit.layers) * state_bytes
    factor = num_samples / len(probe.samples)
    return CostEstimate(
        num_samples=num_samples,
        num_probed=len(probe.samples),
        num_unusable=round(len(result.quarantined) * factor),
        num_answers=round(num_answers * factor),
        num_tokens=round(num_tokens * factor),
        num_prompt_tokens=round(num_prompt_tokens * factor),
        num_bytes=round(num_bytes * factor),
        flops=2 * 2.0 * num_parameters * num_tokens * factor,
        unusable=[
            f"{sample.sample_id}: {sample.reason}"
            for sample in result.quarantined[:_NUM_LISTED_UNUSABLE]
        ],
    )


def _model_size(config: RunConfig) -> tuple[int, int]:
    """Return the decoder's hidden size and the number of parameters; no weight is loaded."""
    model = loading.meta_model(config.model)
    return model.config.get_text_config().hidden_size, model.num_parameters()
