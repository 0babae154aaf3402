"""The schema: defaults, look-ups by name, variants, and a reference for every setting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from sekd.config import ModelSpec, RunConfig
from sekd.config.base import Section
from sekd.errors import ConfigError

Load = Callable[..., RunConfig]


def test_defaults_fill_what_is_not_written(load: Load) -> None:
    config = load("elicit: {top_k: 7, runtime: {batch_size: 3}}\n")
    assert (config.elicit.top_k, config.elicit.runtime.batch_size) == (7, 3)
    assert config.elicit.layers == ("middle", "final_norm")
    assert config.run_dir == Path("runs/a")
    assert config.data["train"].images == Path("images")
    assert config.distill.lora.rank == 64


def test_a_dataset_is_found_by_its_name(load: Load) -> None:
    config = load()
    assert config.dataset("train", "elicit.dataset") is config.data["train"]
    with pytest.raises(ConfigError, match=r"elicit\.dataset: no dataset 'trian' .*mean train"):
        config.dataset("trian", "elicit.dataset")


def test_a_variant_changes_only_the_settings_that_it_names(load: Load) -> None:
    config = load(
        "distill: {epochs: 3.0, lora: {rank: 8, dropout: 0.0}}\n"
        "sweep: {variants: {small: {lora: {rank: 4}, epochs: 2.0}, same: {}}}\n"
    )
    small = config.variant("small")
    assert (small.lora.rank, small.lora.dropout, small.epochs) == (4, 0.0, 2.0)
    assert config.variant("same") == config.distill


def test_specs_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        ModelSpec(path="tiny").path = "other"  # type: ignore[misc]


def sections(kind: object) -> Iterator[type[Section]]:
    """Yield the section types in a type annotation, and those of their fields."""
    if isinstance(kind, type) and issubclass(kind, Section):
        yield kind
        for field in kind.model_fields.values():
            yield from sections(field.annotation)
    for argument in get_args(kind):
        yield from sections(argument)


@pytest.mark.parametrize("section", sorted(set(sections(RunConfig)), key=str), ids=str)
def test_every_setting_is_explained(section: type[Section]) -> None:
    for name, field in section.model_fields.items():
        assert field.description, f"{section.__name__}.{name} has no docstring"
        assert field.description.endswith("."), f"{section.__name__}.{name}: not a sentence"
