"""Files that were written together are found as they were, or named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sekd.io import artefacts
from sekd.io.artefacts import Artefact, artefact_names, record_files, write_artefact
from sekd.io.locations import Location, to_location
from sekd.io.records import DamagedFileError

CONTENTS = {"metrics.json": '{"hca": 50}', "deep/rows.parquet": b"PAR1"}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture(params=["local", "memory"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    place: Location = tmp_path
    if request.param == "memory":
        place = to_location(f"memory://{tmp_path.name}")
    write_artefact(place, "evaluation", CONTENTS, {"cells": "f00d"})
    return place


def test_what_was_written_is_read_back(directory: Location) -> None:
    assert artefact_names(directory) == ["evaluation"]
    artefact = Artefact.read(directory, "evaluation")
    assert artefact is not None
    assert set(artefact.files) == set(CONTENTS)
    assert artefact.files["metrics.json"]["bytes"] == 11
    assert artefact.inputs == {"cells": "f00d"}
    assert not list(artefact.find_damages())
    assert Artefact.read(directory, "sweep") is None
    assert Artefact.read(directory / "nowhere", "sweep") is None


def test_a_changed_file_is_named_unless_nobody_reads_it(directory: Location) -> None:
    (directory / "metrics.json").write_bytes(b'{"hca": 51}')
    artefact = Artefact.read(directory, "evaluation")
    assert artefact is not None
    (damage,) = artefact.find_damages()
    assert str(damage) == f"{directory / 'metrics.json'}: not what was written"
    with pytest.raises(DamagedFileError, match=r"metrics\.json: not what was written"):
        artefact.check()
    artefact.check(lambda path: path.endswith(".parquet"))


@pytest.mark.parametrize("damage", [flip, lambda path: path.write_bytes(b"")])
def test_a_damaged_record_is_an_error(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    write_artefact(tmp_path, "sweep", CONTENTS)
    damage(tmp_path / "sweep.record.json")
    with pytest.raises(DamagedFileError, match=r"sweep\.record\.json"):
        Artefact.read(tmp_path, "sweep")


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    write_artefact(tmp_path, "sweep", CONTENTS)
    (tmp_path / "deep" / "rows.parquet").unlink()
    artefact = Artefact.read(tmp_path, "sweep")
    assert artefact is not None
    assert [damage.reason for damage in artefact.find_damages()] == ["gone"]


def test_files_are_on_the_disk_before_their_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights").write_bytes(b"w")
    events: list[str] = []
    write = artefacts.write_atomically
    monkeypatch.setattr(artefacts, "sync", lambda path: events.append(path.name))

    def spy(path: Path, content: bytes) -> None:
        events.append(path.name)
        write(path, content)

    monkeypatch.setattr(artefacts, "write_atomically", spy)
    record_files(tmp_path, tmp_path, "checkpoint", ["weights"])
    assert events == ["weights", "checkpoint.record.json"]
    write_artefact(tmp_path, "sweep", {"table.md": "|"})
    assert events[2:] == ["table.md", "sweep.record.json"]
