"""Samples and runs for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from sekd.report.inspect.views import RunView, SampleView, TurnView
from sekd.report.table import Column, Table
from sekd.report.writers import neutralise_controls, to_terminal

_BAR_WIDTH = 24


def render_run(run: RunView) -> Iterator[RenderableType]:
    """Show one line per level, and the samples to look at first."""
    yield to_terminal(inspected_levels_table(run))
    yield _plain("least confident: " + "  ".join(run.least_confident))


def inspected_levels_table(run: RunView) -> Table:
    """Make a table of the answers at each level."""
    return Table(
        name="levels",
        title=f"{run.num_samples} samples elicited",
        columns=[
            Column("level", "level"),
            Column("num_answers", "answers"),
            Column("accuracy", "right %"),
            Column("confidence", "confidence", digits=3),
            Column("option_mass", "option mass", digits=4),
            Column("num_prompt_tokens", "prompt tokens", digits=0),
            Column("num_cached_tokens", "cached", digits=0),
        ],
        num_names=0,
        rows=[
            [
                level.level,
                level.num_answers,
                None if level.accuracy is None else 100 * level.accuracy,
                level.confidence,
                level.option_mass,
                level.num_prompt_tokens,
                level.num_cached_tokens,
            ]
            for level in run.levels
        ],
        groups=[len(run.levels)],
    )


def render_sample(sample: SampleView) -> Iterator[RenderableType]:
    """Show the dialogue, turn by turn."""
    yield _plain(sample.sample_id, style="bold")
    yield _plain(sample.image, style="dim")
    for turn in sample.turns:
        yield _plain(f"\nlevel {turn.level}: {turn.rank}", style="bold")
        yield Padding(_plain(turn.heard.strip(), style="dim"), (0, 2))
        yield Padding(_plain(turn.said.strip()), (0, 2))
        yield Padding(_option_grid(turn), (0, 2))
        yield Padding(Text("\n".join(_turn_notes(turn))), (0, 2))


def _plain(text: str, style: str = "") -> Text:
    """Make a text of words that others wrote, in which a terminal finds nothing to act on."""
    return Text(neutralise_controls(text, keeps_lines=True), style=style)


def _option_grid(turn: TurnView) -> RichTable:
    """Lay out one line per option, with a bar for its probability."""
    grid = RichTable.grid(padding=(0, 1))
    grid.add_column()
    grid.add_column()
    grid.add_column()
    grid.add_column(min_width=_BAR_WIDTH)
    for option in turn.options:
        style = "bold" if option.is_answer else ""
        grid.add_row(
            Text("▶" if option.is_answer else " ", style="bold"),
            Text(option.letter, style=style),
            _plain(option.name, style=style),
            Text(probability_bar(option.probability), style="cyan"),
            Text(f"{option.probability:.4f}", style=style),
            Text(f"({option.as_shown:.4f} as shown)" if turn.has_orders else "", style="dim"),
            Text("✓ right" if option.is_truth else "", style="green"),
        )
    return grid


def probability_bar(probability: float) -> str:
    """Draw a bar of up to 24 characters, to an eighth of a character."""
    eighths = round(min(max(probability, 0.0), 1.0) * _BAR_WIDTH * 8)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (" ▏▎▍▌▋▊▉"[rest] if rest else "")


def _turn_notes(turn: TurnView) -> Iterator[str]:
    yield (
        f"confidence {turn.confidence:.3f}, mass of the options {turn.option_mass:.4f}; "
        f"{turn.num_prompt_tokens} prompt tokens, {turn.num_cached_tokens} of them cached"
    )
    if turn.top:
        tokens = ", ".join(f"{token.text!r} {token.probability:.3f}" for token in turn.top)
        yield f"top: {tokens}; beyond the top k {turn.tail_mass:.2g}"
        norms = ", ".join(f"|{layer}| {norm:.3g}" for layer, norm in turn.norms.items())
        yield f"states: {norms}; engine and state pass differ by {turn.parity:.1g}"
