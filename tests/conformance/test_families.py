"""Every family of the gallery walks as its own single forward passes would.

A few families of different structure run always. ``SEKD_ALL_FAMILIES=1`` (``make test-gallery``)
runs all of them; ``SEKD_GALLERY_RESULTS`` names a file that then receives what was measured.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gallery_models import FAMILY_NAMES, READS_BOTH_WAYS, RUNS_ALL, gallery_spec
from gallery_walks import (
    RecordingEngine,
    SingleForwards,
    Teacher,
    mixed_config,
)
from safetensors.torch import load_file

from sekd.data import signals
from sekd.engines import Answer, Ask, Conversation, ask
from sekd.engines.rehearsal import RehearsalEngine
from sekd.errors import ConfigError
from sekd.models import loading
from sekd.models.batching import Batcher, forward_arguments
from sekd.models.probe import probe_model
from sekd.stages.elicit.parity import ParityGate
from sekd.stages.elicit.states import StatesWorker

FAST = (
    "qwen2.5-vl",  # native resolution, positions of three dimensions
    "llava-next",  # tiles
    "gemma3",  # images nested by prompt, a sliding window
    "muse-glimmer",  # a scale and a soft cap behind lm_head
    "mllama",  # cross attention
)
FAST_IN_BOTH_STYLES = ("llava-next", "mllama")
FAMILIES = [name for name in FAMILY_NAMES if name not in READS_BOTH_WAYS] if RUNS_ALL else FAST
TOLERANCE = 1e-4


def record(name: str, key: str, figures: dict[str, Any]) -> None:
    """Add figures of a family to the file that the environment names, if it does."""
    path = os.environ.get("SEKD_GALLERY_RESULTS")
    if path:
        file = Path(path)
        results = json.loads(file.read_text("utf-8")) if file.is_file() else {}
        results.setdefault(name, {})[key] = figures
        file.write_text(json.dumps(results, indent=1, sort_keys=True), encoding="utf-8")


def largest_difference(asked: list[tuple[Ask, Answer]], reference: SingleForwards) -> float:
    return max(
        float(np.abs(answer.option_logprobs - reference.logprobs(request)).max())
        for request, answer in asked
    )


def count_in_rehearsal(recorded: RecordingEngine, engine: RehearsalEngine) -> list[tuple[int, int]]:
    """Let the rehearsal engine count the tokens of the same requests."""
    turns: dict[str, list[list[Ask]]] = {}
    for turn in recorded.turns:
        turns.setdefault(turn[0].prompt.image_key, []).append(turn)

    def replay(key: str) -> Conversation[dict[tuple[int, ...], tuple[int, int]]]:
        counts = {}
        for requests in turns[key]:
            answers = yield from ask(requests)
            for request, answer in zip(requests, answers, strict=True):
                tokens = answer.num_prompt_tokens, answer.num_cached_tokens
                counts[key, request.prompt.token_ids] = tokens
        return counts

    counts = {}
    for of_sample in engine.run(map(replay, turns)):
        counts |= of_sample
    return [
        counts[request.prompt.image_key, request.prompt.token_ids] for request, _ in recorded.asked
    ]


@pytest.mark.parametrize(
    ("name", "style"),
    [
        (name, style)
        for name in FAMILIES
        for style in ("dialogue", "facts")
        if RUNS_ALL or style == "dialogue" or name in FAST_IN_BOTH_STYLES
    ],
)
def test_a_walk_equals_single_forwards(
    name: str, style: str, mixed_world: Path, tmp_path: Path
) -> None:
    spec = gallery_spec(name)
    config = mixed_config(mixed_world, tmp_path, spec, style=style)
    teacher, reference = Teacher(config, tmp_path / "answers"), SingleForwards(spec)
    assert len(teacher.answers.quarantined) <= 2
    for sample in teacher.answers.quarantined:
        assert "does not take" in sample.reason
    difference = largest_difference(teacher.recorded.asked, reference)
    assert difference < TOLERANCE
    worker = StatesWorker(config, {0: teacher.files})
    states = worker.process(teacher.shard, tmp_path, lambda _: None)
    assert states.stats["parity_max"] < TOLERANCE
    assert states.stats["storage_max"] < TOLERANCE
    in_batches = load_file(states.files[signals.STATES])
    worker._batch.size = 1
    again = worker.process(teacher.shard, tmp_path, lambda _: None)
    one_by_one = load_file(again.files[signals.STATES])
    for layer, rows in in_batches.items():
        np.testing.assert_allclose(rows, one_by_one[layer], atol=10 * TOLERANCE, rtol=TOLERANCE)
    batcher = Batcher(reference.chat, forward_arguments(reference.model))
    probed = probe_model(reference.model, reference.chat, batcher)
    engine = RehearsalEngine(reference.chat, supports_prefix_reuse=probed.supports_prefix_reuse)
    assert count_in_rehearsal(teacher.recorded, engine) == [
        (answer.num_prompt_tokens, answer.num_cached_tokens) for _, answer in teacher.recorded.asked
    ]
    figures = {
        "answers": len(teacher.recorded.asked),
        "cached_vs_single": difference,
        "parity_max": states.stats["parity_max"],
        "continues_cache": probed.supports_prefix_reuse,
        "logit_scale": probed.head.transform.scale,
        "soft_cap": probed.head.transform.cap,
        "refused": sorted(sample.reason for sample in teacher.answers.quarantined),
    }
    record(name, style, figures)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_gate_is_quiet_in_half_precision(name: str, mixed_world: Path, tmp_path: Path) -> None:
    """It fails the shard otherwise."""
    config = mixed_config(mixed_world, tmp_path, gallery_spec(name, "bfloat16"))
    stats = Teacher(config, tmp_path / "answers").states().stats
    limit = ParityGate.of("bfloat16", "float32", None).limit
    assert stats["parity_mean"] < limit
    record(name, "bfloat16", {key: stats[key] for key in ("parity_mean", "parity_max")})


@pytest.mark.parametrize("name", READS_BOTH_WAYS if RUNS_ALL else READS_BOTH_WAYS[:1])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_that_reads_both_ways_is_refused(
    name: str, dtype: Any, mixed_world: Path, tmp_path: Path
) -> None:
    config = mixed_config(mixed_world, tmp_path, gallery_spec(name, dtype))
    with pytest.raises(ConfigError, match="reads its prompt in both directions") as refused:
        Teacher(config, tmp_path / "answers")
    record(name, dtype, {"refused_at_load": str(refused.value)})


def test_the_reference_has_no_cache_and_no_batch(mixed_world: Path, tmp_path: Path) -> None:
    """A model whose cache is wrong would be found: the reference is another computation."""
    spec = gallery_spec("llava-next")
    teacher = Teacher(mixed_config(mixed_world, tmp_path, spec), tmp_path / "answers")
    other = SingleForwards(spec)
    other.model = loading.load_model(spec)
    other.model.get_output_embeddings().weight.data *= 1.01
    assert largest_difference(teacher.recorded.asked, other) > TOLERANCE
