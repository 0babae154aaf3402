"""What all sections of the config share: their base class and the types of their values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator

from sekd.io.locations import Location, to_location

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
DType = Literal["float32", "bfloat16", "float16"]
Divergence = Literal["forward", "reverse", "jsd"]
Distance = Literal["cosine", "mse"]
AnswerForm = Literal["letter", "letter_and_name"]
StateDType = Literal["float32", "bfloat16", "float8"]


def _run_dir(value: object) -> Location:
    if not isinstance(value, str | Path):
        raise ValueError("not a path or a URL")  # noqa: TRY004  pydantic reports no TypeError
    try:
        return to_location(value)
    except ImportError as error:
        raise ValueError(f"no library for this kind of store: {error}") from error


RunDir = Annotated[Location, PlainValidator(_run_dir), PlainSerializer(str)]
Paradigm = Literal["joint", "independent", "conditioned"]
Control = Literal["blind", "shuffled", "circular", "siblings", "taxonomy"]
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.][A-Za-z0-9_.-]*$")]
BASE, STUDENT, SOLVER = "base", "student", "taxonomy"
"""Names of models that are evaluated without being asked for."""


class Section(BaseModel):
    """Base of every section: strict, frozen, and an unknown key is an error."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )
