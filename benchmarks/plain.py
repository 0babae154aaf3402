"""What a student still says to plain prompts, next to its base.

    python benchmarks/plain.py runs/demo/world/config.yaml [--images 200]
        [--prompt "Describe the organism in the image."] [--adapter runs/demo/distill/x/adapter]

Base and student write greedily about the images of every dataset that the config evaluates; of the
student's replies that are not its base's to the letter, the share of words that the two have in
common in order is given, too. Without --adapter the student is the config's finished one.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sekd.commands.options import finished_adapter

from sekd.config import PlainSpec, RunConfig, load_config
from sekd.data.samples import Dataset
from sekd.engines import Conversation, open_engine
from sekd.models.chat import Chat, Transcript
from sekd.models.loading import load_processor
from sekd.stages.walk import PreparedSample, prepare_samples, reply_plainly


def replies(
    config: RunConfig, dataset: Dataset, spec: PlainSpec, adapter: Path | None
) -> dict[str, list[str]]:
    """Sample id -> the words of its reply."""
    chat = Chat(load_processor(config.model), subject=dataset.spec.subject)
    engine = open_engine(
        "transformers", config.model, chat, adapter=adapter, batch_size=64, engine_args={}
    )

    def talk(picture: PreparedSample) -> Conversation[tuple[str, Transcript]]:
        (transcript,) = yield from reply_plainly(chat, picture, spec)
        return picture.sample.id, transcript

    def talks() -> Iterator[Conversation[tuple[str, Transcript]]]:
        for picture in prepare_samples(dataset, list(dataset.samples), []):
            yield talk(picture)

    written = {}
    for sample_id, transcript in engine.run(talks()):
        pairs = zip(transcript.token_ids, transcript.is_target, strict=True)
        written[sample_id] = chat.decode([token for token, is_said in pairs if is_said]).split()
    engine.close()
    return written


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
        dataset = dataset.first(options.images)
        base, student = (replies(config, dataset, spec, each) for each in (None, adapter))
        like = [difflib.SequenceMatcher(None, base[i], student[i]).ratio() for i in base]
        same = np.mean([base[i] == student[i] for i in base])
        print(f"{name}: of {len(base)} replies {same:.1%} are the base's; "
              f"words in common {np.mean(like):.1%}")  # fmt: skip
        first = next(iter(base))
        print(f"  base:    {' '.join(base[first])}\n  student: {' '.join(student[first])}")


if __name__ == "__main__":
    main()
