"""What several tests need: the tiny model by its path, a small drawn world, the real data."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import HealthCheck, settings

import sekd
from sekd.config import DistillSpec, LoraSpec, ModelSpec, RunConfig, load_config
from sekd.data.questions import Question, labelled_questions
from sekd.data.samples import Dataset
from sekd.data.taxonomy import Taxonomy
from sekd.data.toyworld import write_world

if TYPE_CHECKING:  # transformers takes seconds to import, and most tests do without
    from transformers import Idefics3Processor

    from sekd.models.chat import Chat

os.environ.setdefault("HF_HUB_OFFLINE", "1")

# How long an example takes says how busy the machine is, and nothing about sekd.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

TINY_MODEL = Path(sekd.__file__).parent / "tiny_model"

_LONGEST_FIRST = ("test_flips.py", "test_cli.py", "conformance", "commands", "engines", "models")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Take the longest files first: when one comes last, the other process has nothing to do."""

    def place(item: pytest.Item) -> int:
        part = item.path.relative_to(Path(__file__).parent).parts[0]
        return _LONGEST_FIRST.index(part) if part in _LONGEST_FIRST else len(_LONGEST_FIRST)

    items.sort(key=place)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tiny_model() -> Path:
    return TINY_MODEL


@pytest.fixture(scope="session")
def shared_data() -> Path:
    folder = Path(os.environ.get("SEKD_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real taxonomies at {folder} (SEKD_SHARED_DATA)")
    return folder


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small drawn world; read it, never write into it."""
    directory = tmp_path_factory.mktemp("drawn") / "world"
    write_world(directory, num_train=30, num_test=12, seed=0)
    return directory


@pytest.fixture(scope="session")
def mixed_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn world with images of unusual sizes, modes and orientation; never write into it."""
    from gallery_walks import write_mixed_world

    return write_mixed_world(tmp_path_factory.mktemp("mixed") / "world")


@pytest.fixture(scope="session")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter with weights that change the answers."""
    import torch

    from sekd.models.loading import load_model
    from sekd.stages.distill.adapter import add_adapter

    base = load_model(ModelSpec(path=str(tiny_model), dtype="float32"))
    model = add_adapter(base, DistillSpec(lora=LoraSpec(rank=4, alpha=8, dropout=0.0)))
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.2, generator=generator)
    path = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(str(path))
    return path


@pytest.fixture
def config_file(world: Path, tmp_path: Path) -> Path:
    """A config over the small world whose run directory is the test's own."""
    content = yaml.safe_load((world / "config.yaml").read_text("utf-8"))
    content["run_dir"] = str(tmp_path / "run")
    content["elicit"]["runtime"] = {"batch_size": 5, "shard_size": 10}
    content["distill"] |= {"epochs": 1.0, "global_batch": 8, "learning_rate": 0.001}
    content["distill"]["runtime"] |= {"batch_size": 4, "logging_steps": 1, "save_steps": 2}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


@pytest.fixture
def config(config_file: Path) -> RunConfig:
    return load_config(config_file)


@pytest.fixture(scope="session")
def bpe_processor() -> Callable[..., Idefics3Processor]:
    from chats import build_bpe_processor

    return build_bpe_processor


@pytest.fixture(scope="session")
def taxonomy() -> Taxonomy:
    return Taxonomy.from_paths(
        {
            "herring gull": ["animalia", "chordata", "aves", "herring gull"],
            "black-headed gull": ["animalia", "chordata", "aves", "black-headed gull"],
            "pike": ["animalia", "chordata", "fish", "pike"],
            "honey bee": ["animalia", "arthropoda", "insecta", "honey bee"],
        },
        level_names=["kingdom", "phylum", "class", "species"],
    )


@pytest.fixture(scope="session")
def questions(taxonomy: Taxonomy) -> list[Question]:
    return labelled_questions(
        taxonomy,
        taxonomy.leaf("pike"),
        sample_id="1",
        distractors="random",
        num_options=3,
        seed=0,
    )


@pytest.fixture(scope="session", params=["words", "bpe"])
def chat(request: pytest.FixtureRequest, tiny_model: Path) -> Chat:
    from chats import build_bpe_processor

    from sekd.models.chat import Chat
    from sekd.models.loading import load_processor

    if request.param == "bpe":
        return Chat(build_bpe_processor(), subject="organism")
    spec = ModelSpec(path=str(tiny_model), dtype="float32")
    return Chat(load_processor(spec), subject="organism")


@pytest.fixture(scope="session")
def seen(world: Path) -> Dataset:
    return Dataset.load("seen", load_config(world / "config.yaml").data["seen"])
