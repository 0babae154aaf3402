"""The commands over other data: bad images, no labels, ragged paths and bad taxonomies."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from command_line import answers_of, sekd

from sekd.config import load_config


def damage(config_file: Path) -> tuple[Path, Path]:
    """Copy the training images beside the config; returns two of them to spoil."""
    content = yaml.safe_load(config_file.read_text())
    images = Path(content["data"]["train"]["images"])
    copy = config_file.parent / "images"
    shutil.copytree(images, copy)
    content["data"]["train"]["images"] = str(copy)
    content["elicit"]["max_quarantined"] = 0.3
    config_file.write_text(yaml.safe_dump(content))
    first, second, *_ = sorted(copy.rglob("*.png"))
    return first, second


def test_bad_images_are_set_aside_and_the_others_kept(config_file: Path) -> None:
    truncated, text = damage(config_file)
    truncated.write_bytes(truncated.read_bytes()[:200])
    text.write_text("no image")
    result = sekd("elicit", config_file)
    assert result.exit_code == 0, result.output
    assert "28 samples elicited" in result.output
    assert "2 samples quarantined" in result.output
    for path in (truncated, text):
        assert any(str(path) in line for line in result.output.splitlines()), result.output
    assert len(answers_of(config_file)) == 28 * 4


def test_a_missing_image_is_set_aside_and_named(config_file: Path) -> None:
    gone, _ = damage(config_file)
    content = yaml.safe_load(config_file.read_text())
    spec = content["data"]["train"]
    images = Path(spec.pop("images"))
    rows = [
        {"image": str(path), "label": path.parent.name} for path in sorted(images.rglob("*.png"))
    ]
    table = config_file.parent / "table.jsonl"
    table.write_text("\n".join(json.dumps(row) for row in rows))
    content["data"]["train"] |= {"table": str(table)}
    config_file.write_text(yaml.safe_dump(content))
    gone.unlink()
    result = sekd("elicit", config_file)
    assert result.exit_code == 0, result.output
    assert f"{gone}: no such image" in result.output


def test_ragged_paths_are_asked_to_their_own_depth(config_file: Path) -> None:
    """Words that the tiny model does not know, but every stage and paradigm goes through."""
    images = sorted(Path(load_config(config_file).data["train"].images or "").rglob("*.png"))
    tree = {"a": ["r", "a"], "b": ["r", "x", "b"], "c": ["r", "x", "y", "c"], "d": ["r", "z", "d"]}
    _with_taxonomy(config_file, tree)
    content = yaml.safe_load(config_file.read_text())
    table = config_file.parent / "table.jsonl"
    rows = [{"image": str(images[i]), "label": "abcd"[i % 4]} for i in range(8)]
    table.write_text("\n".join(json.dumps(row) for row in rows))
    del content["data"]["train"]["images"]
    content["data"]["train"] |= {"table": str(table), "distractors": "siblings"}
    content["evaluate"] = {"datasets": ["train"]}
    content["distill"]["global_batch"] = 4
    config_file.write_text(yaml.safe_dump(content))
    for command in ("elicit", "distill", "evaluate"):
        result = sekd(command, config_file)
        assert result.exit_code == 0, result.output
    # The third level has one node, which is given and not asked about.
    assert sorted(level for _, level in answers_of(config_file)) == [1] * 8 + [2] * 6
    rows = json.loads((config_file.parent / "run" / "metrics.json").read_text())["rows"]
    assert len(rows) == 8 * 2 + 1  # blind too, and the taxonomy's solver
    assert all(set(row["level_accuracy"]) == {"1", "2", "3"} for row in rows)


def test_too_many_bad_images_fail_their_shard_alone(config_file: Path) -> None:
    spoilt, _ = damage(config_file)
    spoilt.write_text("no image")
    result = sekd("elicit", config_file, "--set", "elicit.max_quarantined=0.0")
    assert result.exit_code == 1
    last = result.output.strip().splitlines()[-1]
    assert "1 of 3 shards are left" in last
    assert str(spoilt) in last
    done = list(config_file.parent.glob("run/answers/*/attempts/*.end.json"))
    assert sorted(json.loads(p.read_text())["status"] for p in done) == ["done", "done", "failed"]
    again = sekd("elicit", config_file, "--set", "elicit.max_quarantined=0.0")
    assert again.exit_code == 1
    assert len(list(config_file.parent.glob("run/answers/*/attempts/*.end.json"))) == 4


def _with_taxonomy(config_file: Path, taxonomy: object) -> None:
    content = yaml.safe_load(config_file.read_text())
    path = config_file.parent / "taxonomy.json"
    path.write_text(taxonomy if isinstance(taxonomy, str) else json.dumps(taxonomy))
    content["data"]["train"] |= {"taxonomy": str(path), "level_names": []}
    config_file.write_text(yaml.safe_dump(content))


@pytest.mark.parametrize(
    ("taxonomy", "message"),
    [
        ({"a": ["x", "a"], "b": ["x", "b"]}, "no leaf"),
        ({"a": ["x", "y", "x", "a"]}, "cycle: x > y > x"),
        ({"a": ["x", "same"], "b": ["x", "same"]}, "is the one of 'a'"),
        ('{"a": ["x", "a"], "a": ["x", "b"]}', "'a' occurs twice"),
        ('{"a": ["x", "a"', "not valid JSON"),
    ],
)
def test_a_bad_taxonomy_ends_in_one_line(config_file: Path, taxonomy: object, message: str) -> None:
    _with_taxonomy(config_file, taxonomy)
    result = sekd("elicit", config_file)
    assert result.exit_code == 2
    (line,) = result.output.strip().splitlines()
    assert "taxonomy.json" in line
    assert message in line
