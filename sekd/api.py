"""The library: what a notebook or a script needs of sekd, as plain functions.

    >>> from sekd import api
    >>> config = api.load_config("my.yaml")
    >>> api.elicit(config)
    >>> api.distill(config)
    >>> api.evaluate(config)

Commands of the command line call these functions and print what they return.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sekd.config import RunConfig, load_config

if TYPE_CHECKING:
    from sekd.stages.elicit.run import Elicited

__all__ = ["RunConfig", "elicit", "load_config"]


def elicit(config: RunConfig, *, retry_failed: bool = False) -> Elicited:
    """Run the frozen teacher over ``elicit.dataset`` and store its signals."""
    from sekd.stages.elicit.run import run_elicitation

    return run_elicitation(config, retry_failed=retry_failed)
