"""``sekd elicit``: the teacher's signals, in shards."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from sekd.commands.config_command import (
    config_command,
    limit_option,
    retry_failed_option,
    worker_options,
)

if TYPE_CHECKING:
    from sekd.config import RunConfig
    from sekd.stages.elicit.run import Elicited


@click.command("elicit")
@limit_option
@retry_failed_option
@worker_options("elicit")
@config_command("elicit")
def elicit_command(config: RunConfig, as_json: bool, retry_failed: bool) -> bool:
    """Stage one: let the frozen teacher walk the taxonomy, and store its signals.

    Only shards that are not done are run. So the same command resumes a run that was stopped, and
    repeats what failed.

    \b
    Example:
        sekd elicit configs/qwen2.5-vl-7b.yaml --set elicit.engine=vllm
        sekd elicit my.yaml --limit 100 && sekd elicit my.yaml
    """
    from sekd import api

    _report_elicited(api.elicit(config, retry_failed=retry_failed), as_json)
    return True


def _report_elicited(elicited: Elicited, as_json: bool) -> None:
    summary = {
        "num_samples": elicited.num_samples,
        "num_quarantined": elicited.num_quarantined,
        "num_answers": elicited.num_answers,
        "num_prompt_tokens": elicited.num_prompt_tokens,
        "num_cached_tokens": elicited.num_cached_tokens,
        "parity_max": elicited.parity_max,
        "answers": str(elicited.answers.directory),
        "states": str(elicited.states.directory),
    }
    if as_json:
        click.echo(json.dumps(summary))
        return
    click.echo(
        f"{elicited.num_samples} samples elicited, {elicited.num_answers} answers, "
        f"{elicited.num_quarantined} samples quarantined; {elicited.num_prompt_tokens} prompt "
        f"tokens, {elicited.num_cached_tokens} of them from the cache; engine and state pass "
        f"differ by at most {elicited.parity_max:.1g} in log-probability\n"
        f"answers: {elicited.answers.directory}\nstates:  {elicited.states.directory}"
    )
