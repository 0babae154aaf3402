"""``sekd models``: the models of this machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

import click

from sekd.commands import exit_codes
from sekd.errors import ConfigError

if TYPE_CHECKING:
    from sekd.config import EngineName
    from sekd.stages.model_check import Finding, ModelCheck

_WIDTH = 80
_NAME, _VERDICT = 13, 10
"""Widths of the first two columns."""


@click.group("models")
def models_group() -> None:
    """Find out what a model of this machine can do.

    \b
    Example:
        sekd models check Qwen/Qwen2.5-VL-7B-Instruct
    """


@models_group.command("check")
@click.argument("path")
@click.option(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Change a setting of the config's section model, e.g. model.dtype=float32; repeatable.",
)
@click.option(
    "--engine",
    type=click.Choice(["transformers", "vllm"]),
    default="transformers",
    show_default=True,
    help="Engine of the dialogue that the state pass is compared with.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def check_model_command(
    path: str, overrides: Sequence[str], engine: EngineName, as_json: bool
) -> None:
    """Check whether the model at PATH can be taught, and say what to do where it cannot.

    PATH is a directory or a Hugging Face id, as in model.path of a config. Its config, processor,
    chat template, letters, layers and weights are looked at, and a dialogue about a drawn picture
    goes through an engine and the state pass. Without weights everything else is checked. The exit
    code is 1 if something fails that is needed.

    \b
    Example:
        sekd models check Qwen/Qwen2.5-VL-7B-Instruct
        sekd models check ~/models/mine --set model.dtype=float32 --json
    """
    from sekd import api
    from sekd.config import load_model_spec

    try:
        checked = api.check_model(load_model_spec(path, overrides), engine=engine)
    except ConfigError as error:
        click.echo(f"sekd: {error}", err=True)
        sys.exit(exit_codes.CONFIG)
    if as_json:
        click.echo(json.dumps(checked.to_json()))
    else:
        for line in _lines(checked):
            click.echo(line)
    sys.exit(0 if checked.is_usable else exit_codes.INCOMPLETE)


def _lines(checked: ModelCheck) -> Iterator[str]:
    yield f"{checked.model}\n"
    for finding in checked.findings:
        yield from _rows(finding)
    yield ""
    if checked.untested:
        yield from wrap(f"not tested: {', '.join(checked.untested)}", _WIDTH)
    if checked.is_usable:
        yield "usable: nothing that was tested stands against it"
    else:
        yield from wrap(f"not usable: {', '.join(checked.failed)}", _WIDTH)


def _rows(finding: Finding) -> Iterator[str]:
    """Write a finding over as many lines as it takes, in three columns."""
    width = _WIDTH - _NAME - _VERDICT
    texts = wrap(finding.detail, width)
    if finding.advice:
        texts += wrap(f"-> {finding.advice}", width, subsequent_indent="   ")
    yield f"{finding.name:{_NAME}}{finding.verdict:{_VERDICT}}{texts[0]}"
    for text in texts[1:]:
        yield " " * (_NAME + _VERDICT) + text
