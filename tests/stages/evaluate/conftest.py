"""Rows of predictions, written short, and an engine without a model, which follows a rule."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sekd.config import EvaluateSpec, ModelSpec
from sekd.data.predictions import PREDICTION_SCHEMA
from sekd.data.samples import Dataset
from sekd.data.taxonomy import Taxonomy
from sekd.errors import SampleError
from sekd.stages.chat import Chat
from sekd.stages.engines import Answer, Ask, Conversation, Reply
from sekd.stages.evaluate.contenders import Contender, Kept, Opened
from sekd.stages.models import load_processor

Rule = Callable[[Sequence[str]], int]
"""Which of these names, in the order shown, is answered."""
NUM_CACHED = 3


@dataclass
class RuleEngine:
    """Answers by a rule over the names of the options; remembers every request of every run."""

    chat: Chat
    rule: Rule
    refuses: Callable[[Any], bool] = lambda _: False
    runs: list[list[Any]] = field(default_factory=list)
    name: str = "rule"
    version: str = "0"

    def run(self, conversations: Iterable[Conversation[Any]]) -> Iterator[Any]:
        self.runs.append([])
        for conversation in conversations:
            try:
                requests = next(conversation)
                while True:
                    self.runs[-1] += requests
                    if any(map(self.refuses, requests)):
                        requests = conversation.throw(SampleError("too long"))
                    else:
                        requests = conversation.send([self._respond(each) for each in requests])
            except StopIteration as end:
                yield end.value

    def close(self) -> None:
        pass

    def _respond(self, request: Any) -> Any:
        text = self.chat.tokenizer.decode(request.prompt.token_ids)
        num_prompt_tokens = len(request.prompt.token_ids)
        if isinstance(request, Ask):
            names = re.findall(r"\n ([A-Z]) \. (\S+)", text)[-len(request.option_ids) :]
            choice = self.rule([name for _, name in names])
            logprobs = np.full(len(request.option_ids), -5, dtype=np.float32)
            logprobs[choice] = -0.5
            return Answer(choice, logprobs, num_prompt_tokens, NUM_CACHED)
        lines = []
        for rank, options in re.findall(r"what is the (\w+) \?((?: \n [A-Z] \. \S+)+)", text):
            names = [name for _, name in re.findall(r"([A-Z]) \. (\S+)", options)]
            choice = self.rule(names)
            lines.append(f"{rank}: {'ABCDEFG'[choice]}. {names[choice]}")
        return Reply(self.chat.encode("\n".join(lines)), num_prompt_tokens, NUM_CACHED)


class KeptRule(Kept):
    """Keeps that engine open, whatever is asked for."""

    def __init__(self, chat: Chat, rule: Rule) -> None:
        self.chat = chat
        self.engine = RuleEngine(chat, rule)

    def open(self, contender: Contender, spec: EvaluateSpec) -> Opened:
        return Opened(self.chat.processor, self.engine)


@pytest.fixture(scope="module")
def words(tiny_model: Path) -> Chat:
    """A chat whose tokenizer knows the names of the drawn world."""
    spec = ModelSpec(path=str(tiny_model), dtype="float32")
    return Chat(load_processor(spec), subject="organism")


@pytest.fixture(scope="module")
def seen(world: Path) -> Dataset:
    from sekd.config import load_config

    return Dataset.load("seen", load_config(world / "config.yaml").data["seen"])


@pytest.fixture
def kept(words: Chat) -> Callable[[Rule], KeptRule]:
    return lambda rule: KeptRule(words, rule)


def first(_names: Sequence[str]) -> int:
    """Always the letter A."""
    return 0


def alphabetic(names: Sequence[str]) -> int:
    """By the name alone, whatever its letter."""
    return list(names).index(min(names))


RULES: dict[str, Rule] = {"first": first, "alphabetic": alphabetic}


@pytest.fixture
def rules() -> dict[str, Rule]:
    return RULES


@pytest.fixture(scope="session")
def tree() -> Taxonomy:
    return Taxonomy.from_paths(
        {"a": ["r", "x", "a"], "b": ["r", "x", "b"], "c": ["r", "y", "c"], "z": ["r", "z"]}
    )


@pytest.fixture(scope="session")
def rows_of(tree: Taxonomy) -> Callable[..., pa.Table]:
    """Make rows of ``{sample: "truth: answers"}``: leaf names, "-" for what could not be parsed."""

    def make(samples: dict[str, str]) -> pa.Table:
        rows = []
        for sample, text in samples.items():
            leaf, answers = text.split(": ")
            for node, answer in zip(tree.path(tree.leaf(leaf)), answers.split(), strict=True):
                named = tree.named(answer, node.depth)
                rows.append(row(sample, node.depth, node.id, named[0].id if named else None))
        return pa.Table.from_pylist(rows[::-1], PREDICTION_SCHEMA)

    def row(sample: str, level: int, truth: str, answer: str | None) -> dict[str, object]:
        names: dict[str, object] = {"model": "base", "dataset": "d", "paradigm": "joint"}
        options: Sequence[str] = [node.id for node in tree.nodes if node.depth == level]
        return names | {
            "sample_id": sample,
            "level": level,
            "rank": f"level {level}",
            "options": options,
            "truth": truth,
            "prediction": answer,
        }

    return make
