"""An engine that follows a rule, over a small drawn dataset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rules import RULES, Rule, RuleEngineCache

from sekd.config import ModelSpec
from sekd.models.chat import Chat
from sekd.models.loading import load_processor


@pytest.fixture(scope="module")
def words(tiny_model: Path) -> Chat:
    """A chat whose tokenizer knows the names of the drawn world."""
    spec = ModelSpec(path=str(tiny_model), dtype="float32")
    return Chat(load_processor(spec), subject="organism")


@pytest.fixture
def rule_cache(words: Chat) -> Callable[[Rule], RuleEngineCache]:
    return lambda rule: RuleEngineCache(words, rule)


@pytest.fixture
def rules() -> dict[str, Rule]:
    return RULES
