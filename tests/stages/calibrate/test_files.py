"""calibration.json on a remote store: it goes with the adapter to whoever fetches it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sekd.errors import ConfigError
from sekd.io.folders import publish_folder
from sekd.io.locations import to_location
from sekd.pipeline.stage import open_directory
from sekd.stages.calibrate.files import FILE, CalibrationFile
from sekd.stages.distill.run import adapter_location, find_adapter


def test_the_calibration_of_a_remote_run_is_fetched_with_its_adapter(
    adapter: Path, tmp_path: Path
) -> None:
    run = to_location(f"memory://{tmp_path.name}")
    directory = open_directory(run / "distill", {"spec": 1})
    shutil.copytree(adapter, tmp_path / "adapter")
    publish_folder(tmp_path, directory, "adapter")
    fetched = find_adapter(directory)
    assert fetched is not None
    assert CalibrationFile.read(fetched) is None
    place = adapter_location(run, fetched)
    assert place == directory / "adapter"
    calibration = CalibrationFile(model="0" * 64, paradigms={})
    calibration.write(place)
    again = find_adapter(directory)
    assert again is not None
    assert CalibrationFile.read(again) == calibration
    (place / FILE).write_bytes((place / FILE).read_bytes().replace(b"0000", b"1111"))
    with pytest.raises(ConfigError, match="not what was written; run sekd calibrate again"):
        find_adapter(directory)


def test_an_adapter_of_this_machine_is_its_own_place(adapter: Path, tmp_path: Path) -> None:
    assert adapter_location(tmp_path, adapter) == adapter
