"""Samples and runs for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sekd.report.inspect.views import RunView, SampleView, TurnView

_WIDTH = 24


def show_run(run: RunView) -> Iterator[RenderableType]:
    """One line per level, and samples worth a look."""
    table = Table(title=f"{run.num_samples} samples elicited", box=SIMPLE_HEAD, pad_edge=False)
    for heading in (
        *("level", "answers", "right %", "confidence", "option mass"),
        *("prompt tokens", "cached"),
    ):
        table.add_column(heading, justify="right")
    for level in run.levels:
        table.add_row(
            str(level.level),
            f"{level.num_answers:,}",
            "" if level.accuracy is None else f"{100 * level.accuracy:.1f}",
            f"{level.confidence:.3f}",
            f"{level.option_mass:.4f}",
            f"{level.num_prompt_tokens:.0f}",
            f"{level.num_cached_tokens:.0f}",
        )
    yield table
    yield Text("least confident: " + "  ".join(run.least_confident))


def show_sample(sample: SampleView) -> Iterator[RenderableType]:
    """The dialogue, turn by turn."""
    yield Text(f"{sample.sample_id}", style="bold")
    yield Text(sample.image, style="dim")
    for turn in sample.turns:
        yield Text(f"\nlevel {turn.level}: {turn.rank}", style="bold")
        yield Padding(Text(turn.heard.strip(), style="dim"), (0, 2))
        yield Padding(Text(turn.said.strip()), (0, 2))
        yield Padding(_options(turn), (0, 2))
        yield Padding(Text("\n".join(_notes(turn))), (0, 2))


def _options(turn: TurnView) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column()
    table.add_column()
    table.add_column()
    table.add_column(min_width=_WIDTH)
    for option in turn.options:
        style = "bold" if option.is_answer else ""
        mark = "✓ right" if option.is_truth else ""
        table.add_row(
            Text("▶" if option.is_answer else " ", style="bold"),
            Text(option.letter, style=style),
            Text(option.name, style=style),
            Text(bar(option.probability), style="cyan"),
            Text(f"{option.probability:.4f}", style=style),
            Text(f"({option.as_shown:.4f} as shown)" if turn.has_orders else "", style="dim"),
            Text(mark, style="green"),
        )
    return table


def bar(share: float) -> str:
    """A bar of up to 24 cells, to an eighth of a cell."""
    eighths = round(min(max(share, 0.0), 1.0) * _WIDTH * 8)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (" ▏▎▍▌▋▊▉"[rest] if rest else "")


def _notes(turn: TurnView) -> Iterator[str]:
    yield (
        f"confidence {turn.confidence:.3f}, mass of the options {turn.option_mass:.4f}; "
        f"{turn.num_prompt_tokens} prompt tokens, {turn.num_cached_tokens} of them cached"
    )
    if turn.top:
        tokens = ", ".join(f"{token.text!r} {token.probability:.3f}" for token in turn.top)
        yield f"top: {tokens}; beyond the top k {turn.tail_mass:.2g}"
        norms = ", ".join(f"|{layer}| {norm:.3g}" for layer, norm in turn.norms.items())
        yield f"states: {norms}; engine and state pass differ by {turn.parity:.1g}"
