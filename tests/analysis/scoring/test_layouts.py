"""Files of other programs, written as those write them, score as the plain CSV does."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import openpyxl
import pandas as pd
import pyarrow as pa
import pytest

from sekd import api
from sekd.analysis.scoring.files import FileOptions
from sekd.analysis.scoring.scorecard import FileScore
from sekd.errors import ConfigError

RANKS = ("order", "family", "species")
TAXONOMY = [
    ("Charadriiformes", "Laridae", "Artic Tern"),
    ("Charadriiformes", "Laridae", "Heermann's Gull"),
    ("Charadriiformes", "Alcidae", "Crested Auklet"),
    ("Passeriformes", "Corvidae", "Blue Jay"),
    ("Passeriformes", "Icteridae", "Orchard Oriole"),
]
SAMPLES = [(f"images/{species}/{n}.jpg", species) for n in range(3) for *_, species in TAXONOMY]
PATH_OF = {path[-1]: list(path) for path in TAXONOMY}


def answers_of(number: int, species: str) -> list[str | None]:
    """The answers of a model that is right, wrong at its leaf, off its path, or not parsed."""
    path = PATH_OF[species]
    other = PATH_OF["Blue Jay" if species != "Blue Jay" else "Artic Tern"]
    return {
        0: list[str | None](path),
        1: [*path[:2], other[2]],
        2: [path[0], None, other[2]],
        3: list[str | None](other),
    }[number % 4]


PATHS = [
    (sample_id, PATH_OF[species], answers_of(number, species))
    for number, (sample_id, species) in enumerate(SAMPLES)
]
LEAVES = [(sample_id, truth[-1], answers[-1]) for sample_id, truth, answers in PATHS]


@pytest.fixture
def taxonomy(tmp_path: Path) -> Path:
    path = tmp_path / "birds.csv"
    path.write_text("\n".join(map(",".join, [RANKS, *TAXONOMY])))
    return path


def plain_csv(path: Path) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sample_id", "level", "truth", "prediction"])
        for sample_id, truth, answers in PATHS:
            for level, (right, answer) in enumerate(zip(truth, answers, strict=True), start=1):
                writer.writerow([sample_id, level, right, answer])
    return path


def plain_leaf_csv(path: Path) -> Path:
    rows = [(sample_id, truth, leaf or "") for sample_id, truth, leaf in LEAVES]
    path.write_text("\n".join(map(",".join, [("sample_id", "truth", "prediction"), *rows])))
    return path


def metrics(scored: FileScore) -> dict[str, Any]:
    (card,) = scored.cards
    return card.metrics.to_json()


def write_scripts_output(path: Path) -> None:
    """As ``eval_CUB.py`` of the published scripts dumps its results."""
    results = []
    for sample_id, truth, answers in PATHS:
        entry: dict[str, Any] = {"image": sample_id, "label": truth[-1]}
        for level, (right, answer) in enumerate(zip(truth, answers, strict=True), start=1):
            choices = {"A": right.lower(), "B": (answer or "another").lower()}
            letter = "Unknown" if answer is None else "A" if answer == right else "B"
            entry |= {
                f"ground_truth_level{level}": right.lower(),
                f"prediction_level{level}": "I cannot tell." if answer is None else letter,
                f"predicted_level{level}_letter": letter,
                f"predicted_level{level}": choices.get(letter, "Unknown"),
                f"choices_level{level}": choices,
            }
        results.append(entry)
    path.write_text(json.dumps(results, indent=4))


def write_lmms_eval_log(path: Path) -> None:
    """As lmms-eval's ``save_results_samples`` logs a task whose target is a path."""
    lines = [
        {
            "doc_id": number,
            "target": str(truth),
            "filtered_resps": [json.dumps(answers)],
            "doc_hash": "74234e98afe7498fb5daf1f36ac2d78acc339464f950703b8c019892f982b90b",
            "exact_match": float(truth == answers),
            "submission": {"id": sample_id},
            "input": "What is this bird?",
        }
        for number, (sample_id, truth, answers) in enumerate(PATHS)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))


def vlmevalkit_rows() -> list[dict[str, Any]]:
    """A question a level, whose answer is a letter; replies as models give them."""
    rows = []
    for sample_id, truth, answers in PATHS:
        for level, (right, answer) in enumerate(zip(truth, answers, strict=True), start=1):
            options = [right, answer if answer not in (None, right) else "something else"]
            letter = "A" if answer == right else "B"
            replies = (letter, f"{letter}.", f"({letter}) {options['AB'.index(letter)]}", answer)
            reply = replies[len(rows) % 4]
            rows.append(
                {
                    "index": len(rows),
                    "sample_id": sample_id,
                    "level": level,
                    "question": f"What is the {RANKS[level - 1]}?",
                    "A": options[0],
                    "B": options[1],
                    "answer": "A",
                    "prediction": "Failed to obtain answer" if answer is None else reply,
                }
            )
    return rows


def write_sheet(path: Path, rows: list[dict[str, Any]]) -> None:
    book = openpyxl.Workbook()
    for row in [list(rows[0]), *(list(row.values()) for row in rows)]:
        book.worksheets[0].append(row)
    book.save(path)


def wide_rows() -> list[dict[str, Any]]:
    return [
        {"sample_id": sample_id}
        | {f"truth_{rank}": name for rank, name in zip(RANKS, truth, strict=True)}
        | {f"pred_{rank}": name for rank, name in zip(RANKS, answers, strict=True)}
        for sample_id, truth, answers in PATHS
    ]


def path_rows() -> list[dict[str, Any]]:
    return [{"sample_id": i, "truth": truth, "prediction": answers} for i, truth, answers in PATHS]


def level_rows() -> list[dict[str, Any]]:
    return [
        {"sample_id": sample_id, "level": level, "truth": right, "prediction": answer}
        for sample_id, truth, answers in PATHS
        for level, (right, answer) in enumerate(zip(truth, answers, strict=True), start=1)
    ]


def write_zst(path: Path) -> None:
    with pa.output_stream(str(path), compression="zstd") as stream:
        stream.write("\n".join(map(json.dumps, path_rows())).encode())


FILES: dict[str, Callable[[Path], object]] = {
    "scripts.json": write_scripts_output,
    "20261125_120000_samples_birds.jsonl": write_lmms_eval_log,
    "Qwen2.5-VL-7B_Birds.xlsx": lambda path: write_sheet(path, vlmevalkit_rows()),
    "Qwen2.5-VL-7B_Birds.tsv": lambda path: pd.DataFrame(vlmevalkit_rows()).to_csv(
        path, sep="\t", index=False, encoding="utf-8", quoting=csv.QUOTE_ALL
    ),
    "wide.csv": lambda path: pd.DataFrame(wide_rows()).to_csv(path, index=False),
    "wide.xlsx": lambda path: write_sheet(path, wide_rows()),
    "semicolons.csv": lambda path: pd.DataFrame(level_rows()).to_csv(path, sep=";", index=False),
    "table.tsv": lambda path: pd.DataFrame(level_rows()).to_csv(path, sep="\t", index=False),
    "table.csv.gz": lambda path: pd.DataFrame(level_rows()).to_csv(path, index=False),
    "paths.jsonl.zst": write_zst,
    "paths.ndjson": lambda path: path.write_text("\n".join(map(json.dumps, path_rows()))),
    "paths.json": lambda path: path.write_text(json.dumps(path_rows())),
    "columns.json": lambda path: pd.DataFrame(level_rows()).to_json(path),
    "saved": lambda path: datasets.Dataset.from_list(path_rows()).save_to_disk(path),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_scores_as_the_plain_csv_does(tmp_path: Path, taxonomy: Path, name: str) -> None:
    FILES[name](tmp_path / name)
    expected = metrics(api.score(plain_csv(tmp_path / "plain.csv"), taxonomy))
    assert expected["hca"]["value"] == pytest.approx(100 * 4 / 15)
    assert expected["parse_failure_rate"]["value"] == pytest.approx(100 * 4 / 15)
    scored = api.score(tmp_path / name, taxonomy)
    assert metrics(scored) == expected
    assert scored.warnings  # what the file was taken for, or what was found in it


@pytest.mark.parametrize("with_ranks", [True, False])
def test_pybioclips_best_candidates_are_scored(
    tmp_path: Path, taxonomy: Path, with_ranks: bool
) -> None:
    """As ``bioclip predict --format csv`` prints: several candidates an image, and no truth."""
    rows = []
    for sample_id, _, leaf in LEAVES:
        for score, species in ((0.1, "Crested Auklet"), (0.8, leaf), (0.1, "Orchard Oriole")):
            order, family, name = PATH_OF[species or "Blue Jay"]
            ranks = {
                "kingdom": "Animalia",
                "phylum": "Chordata",
                "class": "Aves",
                "order": order,
                "family": family,
                "genus": "Sterna",
                "species_epithet": "paradisaea",
                "species": name,
                "common_name": name,
            }
            answer = ranks if with_ranks else {"classification": name}
            rows.append({"file_name": sample_id, **answer, "score": score})
    path = tmp_path / "bioclip.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    with pytest.raises(ConfigError, match="it holds no truths; name them: --truth"):
        api.score(path, taxonomy)
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(["file,bird", *(f"{Path(i).name},{t}" for i, t, _ in LEAVES)]))
    by_folder = api.score(path, taxonomy, options=FileOptions(truth="folder"))
    expected = api.score(plain_leaf_csv(tmp_path / "leaves.csv"), taxonomy)
    assert metrics(by_folder)["leaf_accuracy"] == metrics(expected)["leaf_accuracy"]
    assert metrics(by_folder)["hca"] == metrics(expected)["hca"]
    with pytest.raises(ConfigError, match=r"has the truth .* here and 'Artic Tern' before"):
        api.score(path, taxonomy, options=FileOptions(truth=str(labels)))
    labels.write_text("\n".join(["file,bird", *(f"{i},{t}" for i, t, _ in LEAVES)]))
    by_table = api.score(path, taxonomy, options=FileOptions(truth=str(labels)))
    assert metrics(by_table) == metrics(by_folder)


def test_leaves_alone_are_marked_or_completed(tmp_path: Path, taxonomy: Path) -> None:
    path = plain_leaf_csv(tmp_path / "leaves.csv")
    marked = api.score(path, taxonomy)
    assert "every answer is a leaf alone, so HCA is leaf accuracy" in " ".join(marked.warnings)
    assert marked.cards[0].is_leaf_only
    assert metrics(marked)["tice"] is None
    assert metrics(marked)["hca"] == metrics(marked)["leaf_accuracy"]
    completed = api.score(path, taxonomy, options=FileOptions(completes_leaves=True))
    assert not completed.warnings
    assert metrics(completed)["tice"]["value"] == 0


def test_columns_of_any_name_are_told(tmp_path: Path, taxonomy: Path) -> None:
    plain = plain_leaf_csv(tmp_path / "plain.csv")
    path = tmp_path / "mine.csv"
    path.write_text(plain.read_text().replace("sample_id,truth,prediction", "file,bird,answer", 1))
    with pytest.raises(ConfigError, match="no column 'sample_id'; there are 'file', 'bird'"):
        api.score(path, taxonomy)
    columns = {"sample_id": "file", "truth": "bird", "prediction": "answer"}
    scored = api.score(path, taxonomy, options=FileOptions(columns=columns))
    assert metrics(scored) == metrics(api.score(plain, taxonomy))
    with pytest.raises(ConfigError, match="no column 'birds', which --columns names; there are"):
        api.score(path, taxonomy, options=FileOptions(columns={"truth": "birds"}))


def test_names_are_matched_and_said(tmp_path: Path, taxonomy: Path) -> None:
    path = tmp_path / "odd.csv"
    gull = "B. Heermann\N{RIGHT SINGLE QUOTATION MARK}s gull."
    answers = ["001.Artic_Tern", gull, "blue-jay", "NaN"]
    rows = [
        f"{n},{truth},{answer}"
        for n, (truth, answer) in enumerate(
            zip(["Artic Tern", "heermanns_gull", "Blue Jay", "Blue Jay"], answers, strict=True)
        )
    ]
    path.write_text("\n".join(["sample_id,truth,prediction", *rows]))
    scored = api.score(path, taxonomy, options=FileOptions(completes_leaves=True))
    assert metrics(scored)["hca"]["value"] == 75
    assert metrics(scored)["parse_failure_rate"]["value"] == 25
    (said,) = scored.warnings
    assert "1 by leading number ('001.Artic_Tern' as 'Artic Tern')" in said
    assert f"1 by option letter ({gull!r}" in said
    assert "by punctuation ('heermanns_gull' as \"Heermann's Gull\")" in said


def test_an_open_quote_swallows_no_rows(tmp_path: Path, taxonomy: Path) -> None:
    path = tmp_path / "open.csv"
    plain = plain_leaf_csv(path).read_text().splitlines()
    plain[2] = plain[2].replace(",", ',"', 1)
    plain[5] += '"'
    path.write_text("\n".join(plain))
    with pytest.raises(ConfigError, match=r"line \d: .* under 3 columns|line \d: .*quote"):
        api.score(path, taxonomy)


def test_clusters_widen_the_intervals(tmp_path: Path, taxonomy: Path) -> None:
    rows = [
        {"sample_id": n, "camera": f"c{n // 20}", "truth": "Blue Jay", "prediction": answer}
        for n in range(200)
        for answer in ["Blue Jay" if n // 20 % 2 else "Artic Tern"]
    ]
    path = tmp_path / "p.csv"
    pd.DataFrame(rows).to_csv(path, index=False)

    def width(cluster: str | None) -> float:
        hca = metrics(api.score(path, taxonomy, options=FileOptions(cluster=cluster)))["hca"]
        assert hca["value"] == 50
        return float(hca["high"] - hca["low"])

    assert width("camera") > 3 * width(None)
    with pytest.raises(ConfigError, match="neither a column of the file nor one of the taxonomy's"):
        width("observer")
    assert width("species") == 100  # all samples are of one species: nothing is known


def test_cells_of_another_taxonomy_are_left_out(tmp_path: Path, taxonomy: Path) -> None:
    rows = [
        {"dataset": name, "sample_id": "1", "truth": truth, "prediction": truth}
        for name, truth in (("birds", "Blue Jay"), ("food", "Pizza"))
    ]
    path = tmp_path / "p.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    scored = api.score(path, taxonomy)
    assert [card.names["dataset"] for card in scored.cards] == ["birds"]
    assert "1 cells have no truth in" in " ".join(scored.warnings)
    assert "food" in " ".join(scored.warnings)
