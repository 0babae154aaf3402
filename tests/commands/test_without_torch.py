"""Commands that only read results start on a machine without torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from evaluations import write_run

WITHOUT_MODELS = """
import sys

class Refusal:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "peft", "vllm"):
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, Refusal())
from sekd.cli import main
main()
"""


def run_without_models(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_MODELS, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
        check=False,
    )


def test_score(tmp_path: Path) -> None:
    taxonomy, predictions = tmp_path / "taxonomy.json", tmp_path / "predictions.csv"
    taxonomy.write_text('{"gull": ["animal", "bird", "gull"], "pike": ["animal", "fish", "pike"]}')
    predictions.write_text("sample_id,truth,prediction\na,gull,gull\nb,pike,gull\n")
    result = run_without_models("score", predictions, "--taxonomy", taxonomy)
    assert result.returncode == 0, result.stderr
    assert "50.0" in result.stdout


@pytest.mark.parametrize(
    ("command", "code", "printed"), [("report", 0, "report.html"), ("status", 1, "")]
)
def test_commands_on_a_run(tmp_path: Path, command: str, code: int, printed: str) -> None:
    result = run_without_models(command, write_run(tmp_path))
    assert result.returncode == code, result.stderr
    assert printed in result.stdout
    assert "not installed" not in result.stderr


def test_the_refusal_works(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("run_dir: r\n")
    result = run_without_models("inspect", write_run(tmp_path))
    assert result.returncode == 2
    assert "is not installed" in result.stderr
