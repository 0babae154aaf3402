"""How a trained model is asked, as files beside its weights say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sekd.config import RunConfig
from sekd.data.samples import load_taxonomy
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError
from sekd.models.usage import TAXONOMY, USAGE, WORDING, Usage, write_usage_files
from sekd.models.wording import load_wording


def write(config: RunConfig, folder: Path) -> Usage:
    folder.mkdir()
    taxonomy = load_taxonomy(config.data["train"])
    student = config.model.model_copy(update={"processor_args": {"size": {"longest_edge": 56}}})
    write_usage_files(folder, config, student, taxonomy)
    usage = Usage.read(folder)
    assert usage is not None
    return usage


def test_the_files_hold_the_prompts_the_taxonomy_and_the_visual_budget(
    config: RunConfig, tmp_path: Path
) -> None:
    usage = write(config, tmp_path / "adapter")
    assert usage.processor_args == {"size": {"longest_edge": 56}}
    assert usage.base_model == config.model.path
    assert usage.formats == config.distill.formats
    assert usage.open_prompt.startswith("Name the organism in the image at these levels")
    assert Taxonomy.load(tmp_path / "adapter" / TAXONOMY).digest() == usage.taxonomy
    standard = load_wording("standard")
    assert load_wording(str(tmp_path / "adapter" / WORDING)) == standard


def test_a_folder_without_the_file_says_nothing(tmp_path: Path) -> None:
    assert Usage.read(tmp_path) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt_version": 99}, "prompts of version 99.*take sekd"),
        ({"subject": 3}, "subject: Input should be a valid string"),
        ({"nonsense": 3}, "unknown key nonsense"),
    ],
)
def test_what_this_version_cannot_ask_is_refused_by_name(
    config: RunConfig, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    write(config, tmp_path / "adapter")
    path = tmp_path / "adapter" / USAGE
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        Usage.read(tmp_path / "adapter")
