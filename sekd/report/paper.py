"""The paper's own figures, to be shown beside a run's: compare the shapes, not the heights.

They are read off the bars of the accuracy-by-depth figure of arXiv 2511.18415. The paper's model,
images and taxonomy are other ones, and its level 1 is the root, so that its L2 is the first scored
level.
"""

from __future__ import annotations

from collections.abc import Mapping

SOURCE = "arXiv 2511.18415"

LEVELS = ("L2", "L3", "L4", "L5", "L6")

ACCURACY: Mapping[str, tuple[float, ...]] = {
    "joint": (34.3, 25.0, 26.8, 25.9, 25.4),
    "independent": (89.4, 76.9, 47.9, 30.3, 27.5),
    "conditioned": (93.9, 78.7, 49.5, 31.4, 32.5),
}
"""Percent by level, per paradigm, of the base model."""

GIVEN_PARENT_RIGHT = (97.2, 81.7, 53.9, 39.0, 70.2)
"""Percent by level of the conditioned base where the level above is right."""
GIVEN_PARENT_WRONG = (69.6, 32.8, 33.1, 23.8, 15.2)
"""Percent by level of the conditioned base where the level above is wrong."""
