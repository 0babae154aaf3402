"""The base class of all config sections, and the types of their values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    field_validator,
)

from sekd.io.locations import Location, expand_home, to_location

Value = TypeVar("Value")

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]

DType = Literal["float32", "bfloat16", "float16"]
"""Number format of a model's weights and computations."""
StateDType = Literal["float32", "bfloat16", "float8"]
"""Number format of stored decoder states; ``float8`` is e4m3 with one scale for each row."""
EngineName = Literal["transformers", "vllm"]
"""Library that runs a model: see ``sekd/engines``."""
AnswerForm = Literal["letter", "letter_and_name"]
"""What an answer consists of: ``B``, or ``B. chordata``."""
Divergence = Literal["forward", "reverse", "jsd"]
"""Divergence of the teacher's distribution T and the student's S: ``forward`` is KL(T || S),
``reverse`` KL(S || T), and ``jsd`` is the Jensen-Shannon divergence."""
Distance = Literal["cosine", "mse"]
"""Distance of two states: 1 - cosine similarity, or the squared difference relative to the
teacher's squared length."""
Paradigm = Literal["joint", "joint_forced", "independent", "conditioned", "open", "descent"]
"""How a model is asked about the levels of a taxonomy.

- ``joint`` asks about all of them in one prompt and lets the model write freely.
- ``joint_forced`` asks the same, but the model chooses the letters alone: everything around them is
  written for it, so no reply can be unparsed.
- ``independent`` asks one question per prompt.
- ``conditioned`` asks one question after another, with the earlier answers as context.
- ``open`` shows no options: the model names the path, and only paths of the taxonomy can be named.
- ``descent`` asks about the children of each answer, so that it needs no options around a label."""
WITHOUT_QUIZ: tuple[Paradigm, ...] = ("open", "descent")
"""Paradigms that need no options around a label, so that they work with ``options: children``."""
Control = Literal["blind", "shuffled", "circular", "siblings", "taxonomy"]
"""An ablation: each cell of the evaluation is repeated with one thing changed.

- ``blind`` shows no image.
- ``shuffled`` shows the options in another order.
- ``circular`` shows the options in every rotation, and an answer is right only if it is right in
  all of them. It asks as many times as there are options.
- ``siblings`` takes wrong options from the children of the same parent.
- ``taxonomy`` asks no model: a solver that knows the taxonomy chooses among the options."""

LeafNames = Literal["scientific", "common", "both"]
"""Which name of a leaf is shown, where its taxonomy gives two: ``both`` is "raven (Corvus corax)".
A leaf with one name has that."""

STANDARD_WORDING = "standard"
"""Name of the wording of questions that datasets have by default."""

ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.][A-Za-z0-9_.-]*$")]
BASE, STUDENT, SOLVER = "base", "student", "taxonomy"
"""Names that no model of the config may have: they are those of the config's own model, of its
finished student, and of the solver of the ``taxonomy`` control."""


def _check_folder_name(name: str) -> str:
    if not name.strip(".") or set("/\\") & set(name) or not name.isprintable():
        raise ValueError("the name of a dataset names folders, so it may hold no / and be no dots")
    return name


DatasetName = Annotated[str, AfterValidator(_check_folder_name)]


def _parse_run_dir(value: object) -> Location:
    if not isinstance(value, str | Path):
        raise ValueError("not a path or a URL")  # noqa: TRY004  pydantic reports no TypeError
    try:
        return to_location(value)
    except ImportError as error:
        raise ValueError(f"no library for this kind of store: {error}") from error


def _expand_model_path(path: str) -> str:
    """Expand ``~``; a Hugging Face id stays as it is."""
    return str(expand_home(Path(path))) if path.startswith("~") else path


ModelPath = Annotated[str, AfterValidator(_expand_model_path)]
"""A directory, or a Hugging Face id."""
RunDir = Annotated[Location, PlainValidator(_parse_run_dir), PlainSerializer(str)]


class Section(BaseModel):
    """Base of every section: strict, frozen, and an unknown key is an error.

    A leading ``~`` of every path is the home directory.

    The docstring of each field is its reference: what the value is, its unit or choices, what it
    does, and when to change it.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    @field_validator("*")
    @classmethod
    def _expand_paths(cls, value: Value) -> Value | Path:
        return expand_home(value) if isinstance(value, Path) else value
