"""``sekd taxonomy``: check a taxonomy, and convert one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sekd.commands import exit_codes
from sekd.errors import ConfigError

if TYPE_CHECKING:
    from sekd.data.taxonomy_check import TaxonomyCheck

_WIDTH = 78
_NUM_SHOWN = 10

_level_names_option = click.option(
    "--level-names",
    default="",
    help="Ranks of the levels, or columns of a table, root first: kingdom,phylum,...",
)


@click.group("taxonomy")
def taxonomy_group() -> None:
    """Check a taxonomy, and convert one to JSON or CSV.

    A taxonomy is JSON, YAML, CSV, TSV, XLSX, Parquet, Newick, a dump of NCBI, GBIF, the Catalogue
    of Life or WordNet, or a tree of folders with images.

    \b
    Example:
        sekd taxonomy check birds.json
        sekd taxonomy convert data.noun dogs.json --several-parents first
    """


@taxonomy_group.command("check")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@_level_names_option
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def check_taxonomy_command(path: Path, level_names: str, as_json: bool) -> None:
    """Show the shape of the taxonomy FILE, and what is suspicious in it.

    \b
    Example:
        sekd taxonomy check birds.json
        sekd taxonomy check grocery/train
        sekd taxonomy check classes.csv --level-names "coarse,fine"
    """
    from sekd import api

    check = _or_exit(lambda: api.check_taxonomy(path, level_names=_split(level_names)))
    if as_json:
        click.echo(json.dumps(check.to_json()))
        return
    for line in _describe(check):
        click.echo(line)


@taxonomy_group.command("convert")
@click.argument("source", metavar="FILE", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUTPUT", type=click.Path(path_type=Path))
@_level_names_option
@click.option(
    "--several-parents",
    type=click.Choice(["refuse", "first", "shortest"]),
    default="refuse",
    show_default=True,
    help="What is done with a node that has several parents: it keeps the first one in the file, "
    "or the one with the shortest way to the root.",
)
@click.option(
    "--only",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Text with one name or id of a leaf in each line; other leaves are left out.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
def convert_command(
    source: Path,
    target: Path,
    level_names: str,
    several_parents: str,
    only: Path | None,
    as_json: bool,
) -> None:
    """Write the taxonomy FILE as OUTPUT, a .json (leaf -> path) or a .csv (ranks as columns).

    \b
    Example:
        sekd taxonomy convert grocery/train grocery.json
        sekd taxonomy convert taxdump birds.csv --only species.txt
        sekd taxonomy convert data.noun dogs.json --several-parents first
    """
    from sekd import api

    num_leaves = _or_exit(
        lambda: api.convert_taxonomy(
            source,
            target,
            level_names=_split(level_names),
            several_parents=several_parents,  # type: ignore[arg-type]
            only=only,
        )
    )
    if as_json:
        click.echo(json.dumps({"output": str(target), "num_leaves": num_leaves}))
    else:
        click.echo(f"{target}: {num_leaves:,} leaves")


def _split(level_names: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in level_names.split(",")) if level_names else ()


def _or_exit(compute: Callable[[], Any]) -> Any:
    """Compute something, or print what is wrong with the input and exit."""
    try:
        return compute()
    except ConfigError as error:
        click.echo(f"sekd: {error}", err=True)
        sys.exit(exit_codes.CONFIG)


def _describe(check: TaxonomyCheck) -> Iterator[str]:
    depth = (
        f"{check.min_depth}"
        if check.min_depth == check.max_depth
        else (f"{check.min_depth} to {check.max_depth}")
    )
    name, num_children = check.widest
    yield f"{check.source}: {check.num_leaves:,} leaves, {depth} levels below the root"
    yield ""
    yield from _picture(check)
    yield ""
    yield f"{'single children':18} " + (
        f"{sum(level.num_single_children for level in check.levels):,} of {check.num_nodes:,} "
        "nodes: a question among siblings has one option"
    )
    if check.longest_chain:
        chain = " > ".join(check.longest_chain)
        yield f"{'longest chain':18} {chain[: _WIDTH - 19]}"
    too_wide = f"; nodes with more than 26: {check.num_too_wide}" if check.num_too_wide else ""
    yield f"{'widest node':18} {name[:30]}, {num_children:,} children{too_wide}"
    kinds = dict.fromkeys(suspicion.kind for suspicion in check.suspicions)
    for kind in kinds:
        found = [suspicion for suspicion in check.suspicions if suspicion.kind == kind]
        yield ""
        yield f"{kind}: {len(found):,}"
        for suspicion in found[:_NUM_SHOWN]:
            places = suspicion.places[:3]
            yield from (
                (f"  {place[-_WIDTH + 4 :]}" for place in places)
                if kind != ("rank at several depths")
                else [f"  {suspicion.name}: {', '.join(places)}"]
            )
        if len(found) > _NUM_SHOWN:
            yield f"  and {len(found) - _NUM_SHOWN:,} more (--json lists all)"


def _picture(check: TaxonomyCheck) -> Iterator[str]:
    """Draw the tree's shape: a bar for each level, as wide as the level has nodes."""
    most = max(level.num_nodes for level in check.levels)
    for level in check.levels:
        rank = level.ranks[0] if level.ranks[0] != f"level {level.level}" else ""
        width = max(1, round(36 * level.num_nodes / most))
        leaves = f", {level.num_leaves:,} leaves" if level.num_leaves else ""
        bar = ("█" * width).center(36)
        yield f"{level.level:2} {rank[:12]:12} {bar} {level.num_nodes:,}{leaves}"
