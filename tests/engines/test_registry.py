"""The registry has an entry for every engine that a config can name."""

from __future__ import annotations

from importlib import metadata
from typing import get_args

import pytest

import sekd.engines
from sekd.config import EngineName
from sekd.engines import ENGINES, EngineEntry, engine_version
from sekd.errors import ConfigError


def test_every_engine_of_the_config_is_registered() -> None:
    assert set(ENGINES) == set(get_args(EngineName))


def test_the_version_is_that_of_the_first_package_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = EngineEntry("no.module", "NoClass", packages=("sekd-not-installed", "transformers"))
    monkeypatch.setitem(sekd.engines.ENGINES, "vllm", entry)
    version = metadata.version("transformers")
    assert engine_version("vllm") == {"name": "vllm", "version": version}


def test_an_engine_that_is_not_installed_is_a_config_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = EngineEntry("no.module", "NoClass", packages=("sekd-not-installed",))
    monkeypatch.setitem(sekd.engines.ENGINES, "vllm", entry)
    with pytest.raises(ConfigError, match=r"the vllm engine is not installed: .*sekd\[vllm\]"):
        engine_version("vllm")
