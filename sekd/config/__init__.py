"""The config of a run: its schema, how it is loaded, and messages about what is wrong in it."""

from sekd.config.base import (
    BASE,
    SOLVER,
    STANDARD_WORDING,
    STUDENT,
    WITHOUT_QUIZ,
    AnswerForm,
    Control,
    Distance,
    Divergence,
    DType,
    EngineName,
    Paradigm,
    StateDType,
)
from sekd.config.benchmark import BenchmarkSpec
from sekd.config.dataset import PIXEL_LIMIT, DatasetSpec, SimilarSpec
from sekd.config.descent import DescentSpec
from sekd.config.distill import DistillRuntime, DistillSpec, LoraSpec, LossWeights
from sekd.config.elicit import ElicitSpec, PlainSpec
from sekd.config.evaluate import EvaluatedModel, EvaluateSpec
from sekd.config.load import (
    dump_resolved,
    find_config,
    load_config,
    load_model_spec,
    load_run_config,
    write_resolved,
)
from sekd.config.model import ModelSpec
from sekd.config.runtime import ShardRuntime
from sekd.config.schema import RunConfig
from sekd.config.sweep import SweepSpec

__all__ = [
    "BASE",
    "PIXEL_LIMIT",
    "SOLVER",
    "STANDARD_WORDING",
    "STUDENT",
    "WITHOUT_QUIZ",
    "AnswerForm",
    "BenchmarkSpec",
    "Control",
    "DType",
    "DatasetSpec",
    "DescentSpec",
    "Distance",
    "DistillRuntime",
    "DistillSpec",
    "Divergence",
    "ElicitSpec",
    "EngineName",
    "EvaluateSpec",
    "EvaluatedModel",
    "LoraSpec",
    "LossWeights",
    "ModelSpec",
    "Paradigm",
    "PlainSpec",
    "RunConfig",
    "ShardRuntime",
    "SimilarSpec",
    "StateDType",
    "SweepSpec",
    "dump_resolved",
    "find_config",
    "load_config",
    "load_model_spec",
    "load_run_config",
    "write_resolved",
]
