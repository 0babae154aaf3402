"""Check, before the first stage is paid for, that the later stages of a config can run."""

from __future__ import annotations

import logging

from sekd.config import RunConfig
from sekd.data.samples import Dataset
from sekd.errors import ConfigError
from sekd.stages.evaluate.cells import refuse_missing_quiz

logger = logging.getLogger(__name__)


def check_later_stages(config: RunConfig) -> None:
    """Refuse a config whose student could not be trained, or whose evaluation has nothing to score.

    Files of an evaluation that cannot be read here are a warning: they may be on another machine.

    Raises:
        ConfigError: naming the settings and the way out.
    """
    name = config.elicit.dataset
    options = config.dataset(name, "elicit.dataset").options
    if options == "children" and config.distill.labels == "truth":
        raise ConfigError(
            f"distill.labels: truth needs labels, and data.{name}.options: children takes the "
            "teacher's own; set distill.labels: teacher"
        )
    for name in config.evaluate.datasets:
        if name not in config.data and "datasets" not in config.evaluate.model_fields_set:
            continue  # the default name; an evaluation of this config was not asked for
        spec = config.dataset(name, "evaluate.datasets")
        refuse_missing_quiz(config.evaluate, name, spec)
        try:
            dataset = Dataset.load(name, spec)
        except ConfigError as error:
            logger.warning("sekd evaluate could not run here: %s", error)
            continue
        refuse_unlabelled(dataset)


def refuse_unlabelled(dataset: Dataset) -> None:
    """Refuse an evaluation of images of which none has a label.

    Raises:
        ConfigError: naming the dataset and the way out.
    """
    leaves = dataset.samples.leaves
    if leaves.null_count == len(leaves):
        raise ConfigError(
            f"evaluate.datasets: no image of data.{dataset.name} has a label, and an evaluation "
            f"scores answers with labels; give labelled images, or a table of labels as "
            f"data.{dataset.name}.labels, or set evaluate.datasets: []"
        )
