"""``sekd status``: how a run stands."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from sekd.commands import exit_codes
from sekd.commands.run_command import run_command

if TYPE_CHECKING:
    from sekd.io.locations import Location
    from sekd.pipeline.status import ProductStatus, StageStatus


@click.command("status")
@click.option("--failed", is_flag=True, help="List every failed shard and quarantined sample.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@run_command
def status_command(run: Location, failed: bool, as_json: bool) -> int:
    """Show how far the run in RUN (a run_dir) is: a summary, then stage by stage.

    Finished cells of the evaluation are counted in one line; --failed lists them too.

    \b
    Example:
        sekd status runs/birds --failed
    """
    from sekd import api
    from sekd.pipeline.status import products_of

    stages = api.status(run)
    products = products_of(run)
    if as_json:
        click.echo(json.dumps([asdict(stage) for stage in stages]))
    else:
        _print_summary(run, stages, products)
        _print_stages(stages, in_full=failed)
        for product in products:
            click.echo(f"{product.name}: {product.text}")
    if any(stage.errors for stage in stages):
        return exit_codes.FAILURES
    is_complete = all(stage.is_complete for stage in stages)
    is_complete = is_complete and all(product.is_complete for product in products)
    return 0 if stages and is_complete else exit_codes.INCOMPLETE


def _print_summary(
    run: Location, stages: Sequence[StageStatus], products: Sequence[ProductStatus]
) -> None:
    are_complete = [stage.is_complete for stage in stages]
    are_complete += [product.is_complete for product in products]
    num_failed = sum(len(stage.errors) for stage in stages)
    num_quarantined = sum(stage.num_quarantined for stage in stages)
    click.echo(
        f"{run}: {sum(are_complete)} of {len(are_complete)} stages are complete, "
        f"{num_failed} shards failed, {num_quarantined:,} samples are quarantined"
    )


def _print_stages(stages: Sequence[StageStatus], *, in_full: bool) -> None:
    """Print every stage; finished cells of the evaluation are one line, unless in full."""
    finished = [stage for stage in stages if _is_finished_cell(stage) and not in_full]
    for stage in stages:
        if stage not in finished:
            _print_stage(stage, in_full=in_full)
    if finished:
        num_done = sum(stage.num_done for stage in finished)
        num_quarantined = sum(stage.num_quarantined for stage in finished)
        click.echo(
            f"predictions: {len(finished)} cells are complete, with {num_done:,} samples done and "
            f"{num_quarantined:,} quarantined"
        )


def _is_finished_cell(stage: StageStatus) -> bool:
    return stage.name.startswith("predictions/") and stage.is_complete and not stage.errors


def _print_stage(stage: StageStatus, *, in_full: bool) -> None:
    shards = ", ".join(f"{count} {status}" for status, count in sorted(stage.shards.items()))
    rate = f"; {stage.rate:.3g} samples/s per worker" if stage.rate else ""
    if stage.seconds_left and not stage.is_complete:
        rate += f", {stage.seconds_left:.0f} s left"
    click.echo(
        f"{stage.name}: {stage.num_done} done and {stage.num_quarantined} quarantined of "
        f"{stage.num_planned} samples; shards: {shards}{rate}\n  {stage.directory}"
    )
    for change in stage.changes:
        click.echo(f"  differs from the directory before it in {change}")
    if stage.num_added or stage.superseded:
        click.echo(
            f"  the data changed: {stage.num_added:,} samples were added, and "
            f"{len(stage.superseded)} shards no longer count"
        )
    _print_lines(
        [f"shard {shard} no longer counts: {reason}" for shard, reason in stage.superseded],
        in_full=in_full,
    )
    _print_lines(
        [f"shard {e['shard']}: {e['error']} (attempt {e['attempt']}, log {e['log']})"
         for e in stage.errors],
        in_full=in_full,
    )  # fmt: skip
    if in_full:
        _print_lines([f"{q['sample_id']}: {q['reason']}" for q in stage.quarantined], in_full=True)


def _print_lines(lines: Sequence[str], *, in_full: bool) -> None:
    shown = lines if in_full else lines[-3:]
    for line in shown:
        click.echo(f"  {line}")
    if len(shown) < len(lines):
        click.echo(f"  and {len(lines) - len(shown)} more: sekd status --failed")
