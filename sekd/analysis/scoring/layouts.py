"""Bring the rows of other programs into the layout that is scored: sample_id, truth, prediction.

A file is recognised by its columns: the outputs of the published scripts (arXiv 2505.24840), sample
logs of lmms-eval, sheets of VLMEvalKit, tables with a column per rank, and what pybioclip and
``sekd predict`` write. Any other names of columns are given with ``--columns``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sekd.data.names import strip_option_letter
from sekd.data.taxonomy import Taxonomy
from sekd.errors import ConfigError
from sekd.io.formats import Cells

REQUIRED_COLUMNS = ("sample_id", "truth", "prediction")
_TRUTH_WORDS = "truth|true|gt|ground_truth|label|target"
_PREDICTION_WORDS = "prediction|pred|predicted"
_SCRIPT_TRUTH, _SCRIPT_ANSWER = re.compile(r"ground_truth_level(\d+)"), r"predicted_level{}"
_SCRIPT_FAILURES = ("Unknown", "Error")
"""Words that the published scripts write where they found no letter in a reply."""
_OPTION_REPLY = re.compile(r"\s*\(?([A-Z])\)?\s*(?:[.:)\]]|$)")
_VLMEVALKIT_FAILURE = "Failed to obtain answer"


@dataclass(frozen=True)
class Layout:
    """A layout of a file.

    Attributes:
        name: for a person.
        matches: tells by the names of the columns, and the taxonomy, whether a file has it.
        convert: returns a row in the standard layout; truth and prediction are names or lists of
            names below the root, ``truth`` is absent where the file has none.
        score: column by which the best of several rows of a sample is taken.
    """

    name: str
    matches: Callable[[Sequence[str], Taxonomy], bool]
    convert: Callable[[Cells, Taxonomy], dict[str, Any]]
    score: str | None = None


def find_layout(names: Sequence[str], taxonomy: Taxonomy) -> Layout | None:
    """Return the layout of a file with these columns; ``None`` if it has none of them."""
    return next((layout for layout in LAYOUTS if layout.matches(names, taxonomy)), None)


def ranks_of(taxonomy: Taxonomy) -> list[str]:
    """Return the names of the ranks below the root, case-folded, from the top down."""
    nodes = sorted(taxonomy.nodes, key=lambda node: node.depth)
    return list(dict.fromkeys(node.rank.casefold() for node in nodes if node.depth))


def _is_standard(names: Sequence[str], taxonomy: Taxonomy) -> bool:
    return set(REQUIRED_COLUMNS) <= set(names)


def _convert_standard(cells: Cells, taxonomy: Taxonomy) -> dict[str, Any]:
    return dict(cells)


def _is_of_scripts(names: Sequence[str], taxonomy: Taxonomy) -> bool:
    return "image" in names and any(_SCRIPT_TRUTH.fullmatch(name) for name in names)


def _convert_of_scripts(cells: Cells, taxonomy: Taxonomy) -> dict[str, Any]:
    """Read one image of the published scripts: a truth and an answer for each level."""
    found = filter(None, map(_SCRIPT_TRUTH.fullmatch, cells))
    levels = sorted(int(match[1]) for match in found if cells[match[0]] is not None)
    answers = [cells.get(_SCRIPT_ANSWER.format(level)) for level in levels]
    return {
        "sample_id": cells["image"],
        "truth": [cells[f"ground_truth_level{level}"] for level in levels],
        "prediction": [None if answer in _SCRIPT_FAILURES else answer for answer in answers],
    }


def _is_of_lmms_eval(names: Sequence[str], taxonomy: Taxonomy) -> bool:
    return {"doc_id", "target"} <= set(names) and bool({"filtered_resps", "resps"} & set(names))


def _convert_of_lmms_eval(cells: Cells, taxonomy: Taxonomy) -> dict[str, Any]:
    """Read one logged sample: its target, and the first of its filtered responses."""
    response = cells.get("filtered_resps", cells.get("resps"))
    while isinstance(response, list):
        response = response[0] if response else None
    return {
        "sample_id": cells["doc_id"],
        "truth": _as_list(cells["target"]),
        "prediction": _as_list(response),
    }


def _as_list(text: Any) -> Any:
    """Return the list that a text is written as, by Python's ``str`` or as JSON, or the text."""
    if not isinstance(text, str) or not text.lstrip().startswith("["):
        return text
    try:
        found = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return text
    return found if isinstance(found, list) else text


def _is_of_vlmevalkit(names: Sequence[str], taxonomy: Taxonomy) -> bool:
    return {"index", "answer", "prediction"} <= set(names)


def _convert_of_vlmevalkit(cells: Cells, taxonomy: Taxonomy) -> dict[str, Any]:
    """Read one question of a sheet, whose answer is a letter if there are columns A, B, ..."""
    options = {
        name: str(cell)
        for name, cell in cells.items()
        if len(name) == 1 and name.isupper() and cell not in (None, "")
    }
    reply = cells.get("prediction")
    kept = ("level", "model", "dataset", "control")
    row = {name: cells[name] for name in kept if name in cells}
    truth = cells.get("answer")
    return {
        **row,
        "sample_id": cells.get("sample_id", cells["index"]),
        "truth": options.get(str(truth), truth),
        "prediction": _chosen_option(reply, options) if options else reply,
    }


def _chosen_option(reply: Any, options: Mapping[str, str]) -> str | None:
    """Return the option that a reply names by its letter or its text; ``None`` if by neither."""
    text = "" if reply is None else str(reply).strip()
    if not text or text == _VLMEVALKIT_FAILURE:
        return None
    letter = _OPTION_REPLY.match(text)
    if letter and letter[1] in options:
        return options[letter[1]]
    named = strip_option_letter(text).rstrip(".").casefold()
    return next((option for option in options.values() if option.casefold() == named), None)


def _wide_columns(names: Sequence[str], taxonomy: Taxonomy, words: str) -> dict[str, str]:
    """Return rank -> column, for columns such as ``truth_genus``, ``genus_true``, ``pred_level2``.

    Args:
        words: a pattern of the words beside the rank.
    """
    columns = {}
    ranks = ranks_of(taxonomy)
    rank_of = {rank: rank for rank in ranks}
    for level, rank in enumerate(ranks, start=1):
        rank_of |= {f"level{level}": rank, f"level_{level}": rank, f"l{level}": rank}
    for name in names:
        for pattern in (rf"(?:{words})[ _.-](?P<rank>.+)", rf"(?P<rank>.+)[ _.-](?:{words})"):
            match = re.fullmatch(pattern, name.casefold())
            found = rank_of.get(match["rank"]) if match else None
            if found is not None:
                columns[found] = name
    return columns


def _is_wide(names: Sequence[str], taxonomy: Taxonomy) -> bool:
    return bool(
        _wide_columns(names, taxonomy, _TRUTH_WORDS)
        and _wide_columns(names, taxonomy, _PREDICTION_WORDS)
    )


def _convert_wide(cells: Cells, taxonomy: Taxonomy) -> dict[str, Any]:
    """Read a row with a column per rank; a rank without a truth is one that the sample lacks."""
    names = list(cells)
    truths = _wide_columns(names, taxonomy, _TRUTH_WORDS)
    answers = _wide_columns(names, taxonomy, _PREDICTION_WORDS)
    ranks = [rank for rank in ranks_of(taxonomy) if rank in truths and cells[truths[rank]]]
    others = {name: cell for name, cell in cells.items() if name not in truths.values()}
    return {
        **{name: cell for name, cell in others.items() if name not in answers.values()},
        "sample_id": cells.get("sample_id", next(iter(cells.values()))),
        "truth": [cells[truths[rank]] for rank in ranks],
        "prediction": [cells.get(answers.get(rank, "")) or None for rank in ranks],
    }


def _is_of_pybioclip(names: Sequence[str], taxonomy: Taxonomy) -> bool:
    has_classes = bool({"classification", "label"} & set(names)) or bool(
        set(ranks_of(taxonomy)) & {name.casefold() for name in names}
    )
    return {"file_name", "score"} <= set(names) and has_classes


def _convert_of_pybioclip(cells: Cells, taxonomy: Taxonomy) -> dict[str, Any]:
    """Read one candidate: a column per rank, or one of the custom labels."""
    by_rank = {name.casefold(): cell for name, cell in cells.items()}
    if "classification" in cells:
        answer: Any = cells["classification"]
    else:
        answer = {rank: by_rank.get(rank) or None for rank in ranks_of(taxonomy)}
    return {"sample_id": cells["file_name"], "prediction": answer}


def _is_of_predict(names: Sequence[str], taxonomy: Taxonomy) -> bool:
    return {"image", "leaf", "accepted_rank", "calibrated", "error"} <= set(names)


def _convert_of_predict(cells: Cells, taxonomy: Taxonomy) -> dict[str, Any]:
    """Read the path to the leaf; an image that could not be used has none."""
    answer: Any = cells["leaf"] or None
    if answer in taxonomy:
        answer = [node.name for node in taxonomy.path(taxonomy[answer])]
    return {"sample_id": cells["image"], "prediction": answer}


LAYOUTS: Sequence[Layout] = (
    Layout("sample_id, truth, prediction", _is_standard, _convert_standard),
    Layout("the published scripts' output", _is_of_scripts, _convert_of_scripts),
    Layout("lmms-eval's sample log", _is_of_lmms_eval, _convert_of_lmms_eval),
    Layout("VLMEvalKit's sheet", _is_of_vlmevalkit, _convert_of_vlmevalkit),
    Layout("a column per rank", _is_wide, _convert_wide),
    Layout("sekd predict's predictions", _is_of_predict, _convert_of_predict),
    Layout("pybioclip's predictions", _is_of_pybioclip, _convert_of_pybioclip, score="score"),
)
"""Layouts in the order in which a file is compared with them."""


def rename_columns(names: Sequence[str], columns: Mapping[str, str], place: str) -> dict[str, str]:
    """Return the file's name -> ours, for the columns that ``--columns`` names.

    Raises:
        ConfigError: if the file does not have one of them; the message lists those that it has.
    """
    missing = [theirs for theirs in columns.values() if theirs not in names]
    if missing:
        raise ConfigError(
            f"{place}: no column {missing[0]!r}, which --columns names; there are "
            f"{', '.join(map(repr, names)) or 'none'}"
        )
    return {theirs: ours for ours, theirs in columns.items()}
