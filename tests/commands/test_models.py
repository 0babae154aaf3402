"""``sekd models check``: a table of 80 columns, JSON, and the exit code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from click.testing import CliRunner, Result

from sekd.cli import main


def models_check(*arguments: object) -> Result:
    runner = CliRunner(catch_exceptions=False)
    return runner.invoke(main, ["models", "check", *map(str, arguments)])


def without_weights(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(
        shutil.copytree(
            tiny_model, tmp_path / "copy", ignore=shutil.ignore_patterns("*.safetensors")
        )
    )


def test_the_table_fits_80_columns(tiny_model: Path, tmp_path: Path) -> None:
    result = models_check(without_weights(tiny_model, tmp_path), "--set", "model.dtype=float32")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert all(len(line) <= 80 for line in lines[1:])
    assert "config       yes       idefics3 (Idefics3ForConditionalGeneration)" in lines
    assert "weights      untested  there are none in the directory" in lines
    assert "not tested: weights, head, dialogue" in result.stdout
    assert lines[-1] == "usable: nothing that was tested stands against it"


def test_a_model_that_cannot_be_used_is_the_exit_code_1(tiny_model: Path, tmp_path: Path) -> None:
    folder = without_weights(tiny_model, tmp_path)
    (folder / "chat_template.jinja").unlink()
    result = models_check(folder, "--json")
    assert result.exit_code == 1
    checked = json.loads(result.stdout)
    assert (checked["is_usable"], checked["failed"]) == (False, ["template"])
    finding = next(each for each in checked["findings"] if each["name"] == "template")
    assert finding.keys() == {"name", "verdict", "detail", "advice"}
    assert models_check(folder).stdout.splitlines()[-1] == "not usable: template"


def test_settings_of_the_section_model_are_taken(tiny_model: Path, tmp_path: Path) -> None:
    folder = without_weights(tiny_model, tmp_path)
    result = models_check(folder, "--json", "--set", "model.decoder_blocks=model.layers")
    assert json.loads(result.stdout)["failed"] == ["blocks"]
    for setting, message in {
        "model.dtyp=float32": "unknown key model.dtyp; did you mean dtype?",
        "elicit.top_k=3": "--set elicit: only settings of model are of use here",
    }.items():
        refused = models_check(folder, "--set", setting)
        assert (refused.exit_code, refused.stderr) == (2, f"sekd: {message}\n")


def test_a_model_that_is_not_there_is_the_exit_code_2(tmp_path: Path) -> None:
    result = models_check(tmp_path / "nowhere")
    assert result.exit_code == 2
    assert "is no directory" in result.stderr
