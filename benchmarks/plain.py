"""Compare a student's replies to plain prompts with those of its base.

    python benchmarks/plain.py runs/demo/world/config.yaml [--images 200]
        [--prompt "Describe the organism in the image."] [--adapter runs/demo/distill/x/adapter]

The base and the student write greedily about the images of every dataset that the config evaluates.
Two figures are printed per dataset: the share of replies that are identical, and the mean share of
words that two replies have in common, in order. Without --adapter the student is the one that the
config has finished.
"""

from __future__ import annotations

import argparse
import difflib
from pathlib import Path

import numpy as np

from sekd.config import PlainSpec, RunConfig, load_config
from sekd.data.samples import Dataset
from sekd.data.shards import Quarantined
from sekd.engines import Conversation, open_engine
from sekd.models.chat import Chat, Transcript
from sekd.models.loading import load_processor
from sekd.stages.distill.run import finished_adapter
from sekd.stages.prepare import PreparedSample, prepare_samples, run_conversations
from sekd.stages.walk import reply_plainly


def replies(
    config: RunConfig, dataset: Dataset, spec: PlainSpec, adapter: Path | None
) -> dict[str, list[str]]:
    """Map sample id to the words of its reply."""
    chat = Chat(load_processor(config.model), subject=dataset.spec.subject)
    engine = open_engine(
        "transformers", config.model, chat, adapter=adapter, batch_size=64, engine_args={}
    )

    def converse(prepared: PreparedSample) -> Conversation[tuple[str, Transcript]]:
        (transcript,) = yield from reply_plainly(chat, prepared, spec)
        return prepared.sample.id, transcript

    words = {}
    samples = prepare_samples(dataset, dataset.samples)
    for outcome in run_conversations(engine, samples, converse):
        if isinstance(outcome, Quarantined):
            continue
        sample_id, transcript = outcome
        tokens = zip(transcript.token_ids, transcript.is_target, strict=True)
        reply = chat.decode([token_id for token_id, is_target in tokens if is_target])
        words[sample_id] = reply.split()
    engine.close()
    return words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--prompt", default="Describe the organism in the image.")
    parser.add_argument("--adapter", type=Path)
    options = parser.parse_args()
    config = load_config(options.config)
    adapter = options.adapter or finished_adapter(config)
    if adapter is None:
        parser.error("the config has no finished student; give --adapter")
    spec = PlainSpec(prompts=(options.prompt,), share=1.0)
    for name in config.evaluate.datasets:
        dataset = Dataset.load(name, config.dataset(name, "evaluate.datasets"))
        dataset = dataset.draw(options.images, seed=0)
        base = replies(config, dataset, spec, adapter=None)
        student = replies(config, dataset, spec, adapter)
        is_same = [base[sample_id] == student[sample_id] for sample_id in base]
        similarities = [
            difflib.SequenceMatcher(None, base[sample_id], student[sample_id]).ratio()
            for sample_id in base
        ]
        print(
            f"{name}: of {len(base)} replies {np.mean(is_same):.1%} are the base's; "
            f"words in common {np.mean(similarities):.1%}"
        )
        first = next(iter(base))
        print(f"  base:    {' '.join(base[first])}\n  student: {' '.join(student[first])}")


if __name__ == "__main__":
    main()
