"""The first screen of the report for a terminal: the sentence, and some lines for each figure."""

from __future__ import annotations

from textwrap import fill

from sekd.report.headline import Headline
from sekd.report.writers import neutralise_controls


def format_headline(headline: Headline, width: int) -> str:
    """Write the first screen in lines of at most ``width`` characters.

    What the page puts under a figure in small print is left to the page, cautions are not.
    """
    lines = [fill(neutralise_controls(headline.sentence), width), ""]
    indent = max((len(figure.title) for figure in headline.figures), default=0) + 2
    for figure in headline.figures:
        parts = [part for part in (figure.meaning, figure.evidence, figure.caution) if part]
        text = neutralise_controls(f"{figure.value} {figure.unit}: {'; '.join(parts)}")
        first = figure.title.ljust(indent)
        lines.append(fill(text, width, initial_indent=first, subsequent_indent=" " * indent))
    return "\n".join(lines)
