"""Config section ``descent``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sekd.config.base import Positive, Section


class DescentSpec(Section):
    """How a model descends a taxonomy among the children of its own answers, without a label.

    ``sekd label``, the elicitation of a dataset with ``options: children`` and the paradigm
    ``descent`` of an evaluation all descend like this. Not given by the paper.
    """

    max_options: Annotated[int, Field(ge=2, le=26)] = 10
    """The largest number of options of a question. A node with more children is asked about in
    groups of nearly equal size, and then among the answers of the groups. Lower it for a model that
    is confused by many options; a question has at most 26 letters."""
    beam: Positive = 1
    """Number of paths that are followed at once. 1 follows the best child of every node. More find
    the most probable paths even if an early answer was wrong, give that many paths for each image,
    and take about that many times as long. An evaluation by the paradigm ``open`` gives as many."""
