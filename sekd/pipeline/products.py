"""Lists everything that commands write outside of shards, for verify, status and gc."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sekd.data.predictions import EVALUATION
from sekd.io.artefacts import Artefact, Damage
from sekd.io.files import names_in
from sekd.io.locations import Location
from sekd.io.records import DamagedFileError


@dataclass(frozen=True)
class ProductKind:
    """An artefact that a command writes.

    Attributes:
        place: its directory, relative to the run; ``*`` stands for any name.
        artefact: the name of its record.
        main_file: a file or folder that is there as soon as something of it was written; empty
            where nothing but the record tells that it was meant to be whole.
    """

    command: str
    place: str
    artefact: str
    main_file: str


PRODUCT_KINDS = (
    ProductKind("distill", "distill/*", "adapter", "adapter"),
    ProductKind("calibrate", "distill/*/adapter", "calibration", "calibration.json"),
    ProductKind("calibrate", "", "calibration", "calibration.json"),
    ProductKind("distill", "distill/*/checkpoints/*", "checkpoint", ""),
    ProductKind("evaluate", "", EVALUATION, "metrics.json"),
    ProductKind("sweep", "sweep", EVALUATION, "metrics.json"),
    ProductKind("sweep", "sweep", "sweep", "table.md"),
    ProductKind("rounds", "rounds", "rounds", "rounds.json"),
    ProductKind("benchmark", "benchmark/*/*", "results", "results"),
    ProductKind("benchmark", "", "benchmark", "benchmark.json"),
    *(
        ProductKind(command, "", f"{command}.config", "")
        for command in ("plan", "label", "elicit", "distill", "sweep", "rounds", "benchmark")
    ),
)


@dataclass(frozen=True)
class Product:
    """An artefact of which something is there.

    Attributes:
        name: that of its record.
        command: the command that made it.
        main_file: see :class:`ProductKind`.
    """

    name: str
    command: str
    directory: Location
    main_file: str = ""

    def read(self) -> Artefact | None:
        """Read its record; ``None`` if it has none, or a damaged one."""
        try:
            return Artefact.read(self.directory, self.name)
        except DamagedFileError:
            return None

    def find_damages(self) -> Iterator[Damage]:
        """Find what is not as it was written; files are hashed whose hash is not remembered."""
        try:
            artefact = Artefact.read(self.directory, self.name)
        except DamagedFileError as error:
            yield Damage(str(error.path), error.reason)
            return
        if artefact is not None:
            yield from artefact.find_damages()
        else:
            path = self.directory / self.main_file
            yield Damage(str(path), "no record of its content, so that it cannot be checked")


def runs_of(run: Location) -> Iterator[tuple[str, Location]]:
    """Yield a run and the runs of its later rounds, with what stands before the names in each."""
    yield "", run
    for name in names_in(run / "rounds"):
        if name.isdigit():
            yield f"rounds/{name}/", run / "rounds" / name


def product_directories(run: Location) -> list[Location]:
    """List the directories of a run that may hold artefacts, without later rounds."""
    places = dict.fromkeys(kind.place for kind in PRODUCT_KINDS)
    return [directory for place in places for directory in _places(run, place)]


def find_products(run: Location) -> Iterator[Product]:
    """Yield every artefact of which a record or its main file is there, without later rounds."""
    for kind in PRODUCT_KINDS:
        for directory in _places(run, kind.place):
            names = names_in(directory)
            if f"{kind.artefact}.record.json" in names or kind.main_file in names:
                yield Product(kind.artefact, kind.command, directory, kind.main_file)


def _places(directory: Location, pattern: str) -> Iterator[Location]:
    """Yield the directories that a pattern of names stands for."""
    if not pattern:
        yield directory
        return
    first, _, rest = pattern.partition("/")
    for name in names_in(directory) if first == "*" else [first]:
        yield from _places(directory / name, rest)
