"""A small run that goes through every command, and what it gives, for comparisons of two runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from click.testing import CliRunner, Result

from sekd.cli import main as sekd_main
from sekd.data.signals import ANSWERS
from sekd.data.toyworld import write_world
from sekd.pipeline.manifest import find_done_files
from sekd.pipeline.stage import newest_first

_FAKE_LMMS_EVAL = Path(__file__).parents[1] / "benchmark" / "fake_lmms_eval.py"
SETTINGS: dict[str, Any] = {
    "distill": {
        "epochs": 1.0,
        "global_batch": 4,
        "learning_rate": 0.005,
        "lora": {"rank": 2, "alpha": 4, "dropout": 0.0},
        "runtime": {"batch_size": 4, "logging_steps": 1, "save_steps": 1},
    },
    "evaluate": {
        "datasets": ["seen"],
        "paradigms": ["joint", "conditioned"],
        "controls": [],
        "limit": 2,
        "num_bootstrap": 2,
    },
    "sweep": {"variants": {"soft-only": {"losses": {"hard": 0.0}}}},
    "benchmark": {"tasks": ["vqa"], "num_bootstrap": 2},
}
COMMANDS = {
    **dict.fromkeys(("elicit", "distill", "evaluate", "sweep"), ()),
    "rounds": ("--set", "rounds=2", "--set", "evaluate.datasets=[]"),
    "benchmark": (),
    "predict": ("--set", "evaluate.runtime.shard_size=4", "--set", "evaluate.runtime.batch_size=4"),
}
"""Command -> its options, in the order in which they are run."""
PREDICTED = "predicted.csv"
"""What ``sekd predict`` writes into the run; its shards are in a folder beside it."""


def arguments_of(name: str, config: Path) -> tuple[str, ...]:
    """Return the command line of one of :data:`COMMANDS`, without the program."""
    if name != "predict":
        return (name, str(config), *COMMANDS[name])
    images, output = (
        config.parent / "world" / "train" / "images",
        config.with_suffix("") / PREDICTED,
    )
    paths = (str(images), "--run", str(config), "--output", str(output))
    return (name, *paths, *COMMANDS[name])


def verified(run: Path) -> str:
    """Return what ``sekd verify`` finds in a run and in its predictions; nothing if they are whole.

    Attempts of damaged files are revoked.
    """
    places = (run, run / f"{PREDICTED}.run")
    done = [sekd("verify", place) for place in places if place.is_dir()]
    return "".join(each.output for each in done if each.exit_code)


def sekd(*arguments: object) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(sekd_main, [str(argument) for argument in arguments])


def write_config(folder: Path, run: str = "run") -> Path:
    """Draw a small world, unless it is there, and write a config of a run in it.

    The lmms-eval of its benchmark is a stand-in.
    """
    world = folder / "world"
    if not world.is_dir():
        write_world(world, num_train=8, num_test=2, seed=0)
    python = folder / "python"
    python.write_text(f"#!{sys.executable}\n{_FAKE_LMMS_EVAL.read_text('utf-8')}")
    python.chmod(0o755)
    content = yaml.safe_load((world / "config.yaml").read_text("utf-8")) | SETTINGS
    content["run_dir"] = str(folder / run)
    content["elicit"]["runtime"] = {"batch_size": 4, "shard_size": 4}
    content["benchmark"] = content["benchmark"] | {"python": str(python)}
    config = folder / f"{run}.yaml"
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    return config


def results(run: Path) -> dict[str, Any]:
    """Return what a run gives, without what is measured by a clock and the paths of the run."""
    adapters = sorted(run.rglob("adapter/adapter_model.safetensors"))
    benchmark = run / "benchmark.json"
    return {
        "answers": sorted(map(str, rows_of(run / "answers"))),
        "adapters": [path.read_bytes() for path in adapters],
        "evaluate": figures(run / "metrics.json"),
        "sweep": figures(run / "sweep" / "metrics.json"),
        "benchmark": json.loads(benchmark.read_bytes())["rows"] if benchmark.is_file() else None,
        "predict": (run / PREDICTED).read_text("utf-8") if (run / PREDICTED).is_file() else None,
    }


def rows_of(root: Path) -> list[dict[str, Any]]:
    """Return the rows of answers of every shard that counts, below a folder of a stage."""
    return [
        row
        for directory, _ in newest_first(root)[:1]
        for (path,) in find_done_files(directory, ANSWERS).values()
        for row in pq.read_table(path).to_pylist()
    ]


def figures(path: Path) -> Any:
    """Return the content of a ``metrics.json`` without its costs; ``None`` if there is none."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return [{k: v for k, v in row.items() if k != "cost"} for row in content["rows"]]
