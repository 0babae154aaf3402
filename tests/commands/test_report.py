"""``sekd report`` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import sekd
from evaluations import write_run
from store import s3_store

from sekd.io.locations import Location, to_location


def test_the_first_screen_and_the_paths_are_printed(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    result = sekd("report", run)
    assert result.exit_code == 0, result.output
    screen, paths = result.stdout.rsplit("\n\n", 1)
    assert paths == f"report: {run}/report.html\ntables: {run}/report\n"
    assert [line.split()[0] for line in screen.splitlines() if line[:1].isupper()] == [
        *("Asked", "Gained", "Kept", "Lost", "Cost")
    ]
    assert max(map(len, screen.splitlines())) <= 80
    assert (run / "report.html").read_text("utf-8").startswith("<!doctype html>")
    assert (run / "report" / "cells.csv").exists()


def test_paths_for_machines(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    written = json.loads(sekd("report", run, "--json").stdout)
    assert written["report"] == str(run / "report.html")
    assert sorted(written["tables"]) == sorted(map(str, (run / "report").iterdir()))


def test_a_second_report_replaces_the_first(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    assert sekd("report", run).exit_code == 0
    before = (run / "report.html").read_bytes()
    (run / "report.html").write_text("old")
    assert sekd("report", run).exit_code == 0
    assert (run / "report.html").read_bytes() == before


def test_without_an_evaluation_it_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "sekd.log").touch()
    result = sekd("report", tmp_path)
    assert result.exit_code == 2
    assert result.output == f"sekd: {tmp_path}/metrics.json: not there; run sekd evaluate first\n"


@pytest.mark.parametrize("name", ["metrics.json", "predictions.parquet"])
def test_a_damaged_file_is_one_line(tmp_path: Path, name: str) -> None:
    run = write_run(tmp_path)
    (run / name).write_bytes(b"{")
    result = sekd("report", run)
    assert result.exit_code == 2
    *_, last = result.stderr.splitlines()  # what comes before says that there is no record
    assert last.startswith(f"sekd: {run}")
    assert not (run / "report.html").exists()


def test_a_run_on_a_store(tmp_path: Path) -> None:
    local = write_run(tmp_path)
    with s3_store() as url:
        run: Location = to_location(f"{url}/birds")
        for path in local.iterdir():
            (run / path.name).write_bytes(path.read_bytes())
        result = sekd("report", run)
        assert result.exit_code == 0, result.output
        page = (run / "report.html").read_text("utf-8")
        assert (run / "report" / "cells.md").exists()
    assert sekd("report", local).exit_code == 0
    named = (local / "report.html").read_text("utf-8").replace("<title>run:", "<title>birds:")
    assert page == named.replace("<span>run</span>", "<span>birds</span>")
