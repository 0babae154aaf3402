"""An engine without a model, which answers by a rule."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sekd.config import EvaluateSpec
from sekd.engines import Answer, Ask, Conversation, Reply
from sekd.engines.driver import run_one_by_one
from sekd.errors import SampleError
from sekd.models.chat import Chat
from sekd.stages.evaluate.candidates import Candidate, EngineCache, OpenCandidate

Rule = Callable[[Sequence[str]], int]
"""Returns the index of the answer among the names of the options, in the order shown."""
NUM_CACHED = 3
"""The number of cached tokens that the engine reports for every prompt."""


@dataclass
class RuleEngine:
    """Answers by a rule over the names of the options, and records all requests of every run."""

    chat: Chat
    rule: Rule
    refuses: Callable[[Any], bool] = lambda _: False
    runs: list[list[Any]] = field(default_factory=list)
    name: str = "rule"
    version: str = "0"

    def run(self, conversations: Iterable[Conversation[Any]]) -> Iterator[Any]:
        self.runs.append([])
        return run_one_by_one(conversations, self._respond_to_all)

    def close(self) -> None:
        pass

    def _respond_to_all(self, requests: Sequence[Any]) -> list[Any]:
        self.runs[-1] += requests
        if any(map(self.refuses, requests)):
            raise SampleError("too long")
        return [self._respond(request) for request in requests]

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


class RuleEngineCache(EngineCache):
    """Always gives the same rule engine, whatever model it is asked for."""

    def __init__(self, chat: Chat, rule: Rule) -> None:
        self.chat = chat
        self.engine = RuleEngine(chat, rule)

    def open(self, candidate: Candidate, spec: EvaluateSpec) -> OpenCandidate:
        return OpenCandidate(self.chat.processor, self.engine)


def first(_names: Sequence[str]) -> int:
    """Choose the letter A."""
    return 0


def alphabetic(names: Sequence[str]) -> int:
    """Choose by the name alone, whatever its letter."""
    return list(names).index(min(names))


RULES: dict[str, Rule] = {"first": first, "alphabetic": alphabetic}
