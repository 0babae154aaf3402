"""Numbers and intervals as a person reads them."""

from __future__ import annotations

from sekd.analysis.estimates import Estimate
from sekd.report.table import Column, Value

EN_DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"


def format_number(
    value: float, digits: int = 1, *, is_signed: bool = False, is_significant: bool = False
) -> str:
    """Format a number with a true minus sign, and never with a minus zero.

    Args:
        digits: the number of digits after the point.
        is_signed: show a plus sign too.
        is_significant: ``digits`` counts significant digits instead.
    """
    sign = "+" if is_signed else ""
    kind = "g" if is_significant else "f"
    text = f"{value:{sign}.{digits}{kind}}"
    if not float(text):
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def format_share(share: float) -> str:
    """Format a share, 0 to 1, as whole percent; 0 % and 100 % are shown only where exact."""
    percent = f"{100 * share:.0f}"
    if percent == "0" and share > 0:
        return "<1 %"
    return ">99 %" if percent == "100" and share < 1 else f"{percent} %"


def format_interval(
    estimate: Estimate,
    digits: int = 1,
    *,
    is_signed: bool = False,
    is_significant: bool = False,
) -> str:
    """Format the ends: "92.2-96.5" with an en dash, or "+1.2 to +3.0" if they are signed."""
    low, high = (
        format_number(end, digits, is_signed=is_signed, is_significant=is_significant)
        for end in (estimate.low, estimate.high)
    )
    return f"{low} to {high}" if is_signed else f"{low}{EN_DASH}{high}"


def format_value(value: Value, column: Column) -> str:
    """Format one value of a table; its interval is left out."""
    if value is None:
        return ""
    if isinstance(value, str):
        return column.labels.get(value, value)
    if isinstance(value, int):
        return f"{value:,}"
    number = value.value if isinstance(value, Estimate) else value
    smallest = 10**-column.digits
    if column.is_probability and number < smallest:
        return f"<{smallest:.{column.digits}f}"
    return format_number(
        number, column.digits, is_signed=column.is_signed, is_significant=column.is_significant
    )


def format_value_interval(value: Value, column: Column) -> str:
    """Format the interval of one value of a table; empty where it has none."""
    if not isinstance(value, Estimate):
        return ""
    return format_interval(
        value,
        column.interval_digits,
        is_signed=column.is_signed,
        is_significant=column.is_significant,
    )
