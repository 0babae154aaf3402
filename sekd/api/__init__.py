"""The library: what the commands of ``sekd`` compute, as functions with typed results.

    >>> from sekd import api
    >>> api.elicit("my.yaml")
    >>> api.distill("my.yaml")
    >>> evaluation = api.evaluate("my.yaml")
    >>> evaluation.rate("seen", "student", "joint", "hca").value  # percent

Every function that takes a config takes a path of a YAML file or what :func:`load_config` returns.
It writes the resolved config as ``<function>.config.yaml`` into the run directory: first, or with
the results that the config belongs to (:func:`evaluate`). Work that is done is not done again, so
the same call resumes a run that was stopped. What goes on is logged under the logger ``sekd``.

Predictions of a program are :func:`sekd.load`'s.

The commands parse their arguments, call these functions, and print what they return. torch,
transformers and vllm are imported when a function needs them, not with this module.
"""

from sekd.api.job import (
    benchmark,
    calibrate,
    distill,
    elicit,
    evaluate,
    export,
    label,
    plan,
    report,
    rounds,
    sweep,
)
from sekd.api.look import (
    audit_data,
    check_model,
    check_taxonomy,
    convert_taxonomy,
    inspect,
    match_classes,
    score,
    status,
)
from sekd.config import RunConfig, load_config

__all__ = [
    "RunConfig",
    "audit_data",
    "benchmark",
    "calibrate",
    "check_model",
    "check_taxonomy",
    "convert_taxonomy",
    "distill",
    "elicit",
    "evaluate",
    "export",
    "inspect",
    "label",
    "load_config",
    "match_classes",
    "plan",
    "report",
    "rounds",
    "score",
    "status",
    "sweep",
]
