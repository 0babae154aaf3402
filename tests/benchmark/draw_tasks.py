"""Tasks for lmms-eval from a drawn world, as a folder to give as ``benchmark.include_path``.

`drawn_whole_path` asks for the whole path at once, of pictures of the taxonomy that the student
learned; `drawn_order` asks for the first level of pictures of the other, and `drawn_levels` for one
level of each, in turn.

    python tests/benchmark/draw_tasks.py world/config.yaml tasks
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import datasets
import yaml

from sekd.config import load_config
from sekd.data.questions import Question
from sekd.data.samples import Dataset, questions_of
from sekd.data.taxonomy import Node
from sekd.models.prompts import answer_prefix, answer_suffix, joint_questions, single_question

HERE = Path(__file__).parent
SUBJECT = "organism"

Exam = tuple[str, str]  # question and answer


def answer(question: Question) -> str:
    assert question.truth is not None
    letter = question.letters[question.options.index(question.truth)]
    return f"{letter}{answer_suffix(question.truth)}"


def whole_path(number: int, questions: Sequence[Question], root: Node) -> Exam:
    lines = [f"{answer_prefix(question)} {answer(question)}" for question in questions]
    return joint_questions(questions, root, SUBJECT), "\n".join(lines)


def order(number: int, questions: Sequence[Question], root: Node) -> Exam:
    return single_question(questions[0], [], SUBJECT), answer(questions[0])


def levels(number: int, questions: Sequence[Question], root: Node) -> Exam:
    question = questions[number % len(questions)]
    return single_question(question, [], SUBJECT), answer(question)


TASKS = {
    "drawn_whole_path": ("seen", whole_path),
    "drawn_order": ("unseen", order),
    "drawn_levels": ("unseen", levels),
}


def write_tasks(config_file: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config = load_config(config_file)
    for name in ("_drawn.yaml", "drawn.py"):
        shutil.copy(HERE / name, folder)
    for task, (world, ask) in TASKS.items():
        dataset = Dataset.load(world, config.data[world])
        rows = []
        for number, sample in enumerate(dataset.samples):
            questions = questions_of(dataset, sample)
            assert questions is not None
            question, right = ask(number, questions, dataset.taxonomy.root)
            image = {"bytes": sample.image.read_bytes(), "path": None}
            rows.append({"image": image, "question": question, "answer": right})
        path = folder.absolute() / f"{task}.parquet"
        table = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
        table.to_parquet(str(path))
        content = {
            "task": task,
            "include": "_drawn.yaml",
            "dataset_kwargs": {"data_files": {"test": str(path)}},
        }
        (folder / f"{task}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


if __name__ == "__main__":
    write_tasks(Path(sys.argv[1]), Path(sys.argv[2]))
