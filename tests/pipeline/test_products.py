"""verify and status know every artefact, and name what of it is not as it was written."""

from __future__ import annotations

from pathlib import Path

import pytest

from sekd.io.artefacts import write_artefact
from sekd.io.folders import publish_folder
from sekd.io.locations import cache_directory
from sekd.pipeline.products import PRODUCT_KINDS, find_products, runs_of
from sekd.pipeline.stage import open_directory
from sekd.pipeline.status import products_of
from sekd.pipeline.verify import verify_run


def write_products(run: Path) -> list[Path]:
    """Write one of each kind of artefact into a run; return a file of each."""
    written = []
    for kind in PRODUCT_KINDS:
        directory = run / kind.place.replace("*", "f00d")
        name = kind.main_file or f"{kind.artefact}.bin"
        if name in ("adapter", "results"):
            (directory / name).mkdir(parents=True)
            path = directory / name / "weights"
            path.write_text(f"of {kind.command}")
            publish_folder(directory, directory, name)
        else:
            path = directory / name
            write_artefact(directory, kind.artefact, {name: f"{kind.command} {kind.artefact}"})
        written.append(path)
    return written


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "run"


@pytest.mark.parametrize("place", ["", "rounds/3"])
def test_a_change_of_any_file_is_found(run: Path, place: str) -> None:
    files = write_products(run / place)
    assert len(list(find_products(run / place))) == len(PRODUCT_KINDS)
    assert not list(verify_run(run))
    for path in files:
        before = path.read_bytes()
        path.write_bytes(before[:-1] + b"?")
        assert [damage.path for damage in verify_run(run)] == [str(path)]
        path.unlink()
        (damage,) = verify_run(run)
        assert (damage.path, damage.reason) == (str(path), "gone")
        path.write_bytes(before)
    assert not list(verify_run(run))


def test_a_damaged_or_missing_record_is_found(run: Path) -> None:
    write_products(run)
    for record in sorted(run.rglob("*.record.json")):
        before = record.read_bytes()
        record.write_bytes(before[:-5])
        assert str(record) in [damage.path for damage in verify_run(run)]
        record.unlink()
        reasons = [damage.reason for damage in verify_run(run)]
        # A checkpoint that a killed process left has none, nor a config of an earlier version.
        is_needed = "checkpoint" not in record.name and ".config." not in record.name
        assert reasons == ["no record of its content, so that it cannot be checked"] * is_needed
        record.write_bytes(before)


def test_a_damaged_fingerprint_is_found(run: Path) -> None:
    directory = open_directory(run / "distill", {"spec": 1})
    assert not list(verify_run(run))
    path = directory / "fingerprint.json"
    path.write_bytes(path.read_bytes()[:-3])
    assert [damage.path for damage in verify_run(run)] == [str(path)]


def test_status_names_what_is_not_whole(run: Path) -> None:
    for _, one in runs_of(run):
        write_products(one)
    path = run / "sweep" / "table.md"
    path.write_text("edited")
    by_name = {product.name: product for product in products_of(run)}
    assert by_name.keys() == {"calibration", "evaluation", "sweep", "rounds", "benchmark"}
    assert by_name["evaluation"].is_complete
    assert not by_name["sweep"].is_complete
    assert f"{path}: not what was written; run sekd sweep again" in by_name["sweep"].text


def test_merged_models_are_checked_with_the_benchmarks_that_made_them(run: Path) -> None:
    write_products(run)
    copies = cache_directory() / "merged"
    (copies / "f00d").mkdir(parents=True)
    (copies / "f00d" / "weights").write_bytes(b"weights")
    publish_folder(copies, copies, "f00d")
    assert not list(verify_run(run))
    (copies / "f00d" / "weights").write_bytes(b"Weights")
    (damage,) = verify_run(run)
    assert damage.path == str(copies / "f00d" / "weights")
