"""Runs the command line in this process, and reads the answers that it stored."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
from click.testing import CliRunner, Result

from sekd.cli import main
from sekd.config import load_config


def sekd(*arguments: object, stdin: str | None = None) -> Result:
    """Run ``sekd`` with these arguments, and a text on standard input.

    The command turns every error into one line and an exit code, so an exception that comes out of
    it is a fault of its own, and is raised here.
    """
    texts = [str(argument) for argument in arguments]
    return CliRunner(catch_exceptions=False).invoke(main, texts, input=stdin)


def answers_of(config_file: Path) -> dict[tuple[str, int], str]:
    """(sample, level) -> node answered, over the one finished directory of answers."""
    run_dir = load_config(config_file).run_dir
    (manifest,) = run_dir.glob("answers/*/manifest-*.json")
    entries = [
        entry for shard in json.loads(manifest.read_text())["shards"] for entry in shard["files"]
    ]
    paths = [manifest.parent / entry["path"] for entry in entries if entry["role"] == "answers"]
    rows = [row for path in paths for row in pq.read_table(path).to_pylist()]
    return {(row["sample_id"], row["level"]): row["answer"] for row in rows}
