"""A bar chart on a logarithmic scale, as SVG text. Bars begin at 1: to the right is more, to the left is less."""

from __future__ import annotations

import math
from dataclasses import dataclass
from xml.sax.saxutils import escape

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")  # told apart by the colour-blind, too
WIDTH = 860
NAMES_WIDTH = 110
VALUES_WIDTH = 80
BAR_HEIGHT = 14
STEP = 18
GROUP_GAP = 30
TOP = 64
BOTTOM = 34


@dataclass(frozen=True)
class Bar:
    """One bar: what it is of, how long it is, and the text at its end. Bars of one name have one colour."""

    name: str
    value: float
    text: str


@dataclass(frozen=True)
class Group:
    """Bars below a heading."""

    heading: str
    bars: list[Bar]


def bar_chart(title: str, about: str, groups: list[Group]) -> str:
    """The picture; values must be greater than 0."""
    values = [bar.value for group in groups for bar in group.bars] or [1.0]
    low = min(0, math.floor(math.log10(min(values))))
    high = max(1, math.ceil(math.log10(max(values))))
    names = list(dict.fromkeys(bar.name for group in groups for bar in group.bars))
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    height = TOP + sum(GROUP_GAP + STEP * len(group.bars) for group in groups) + BOTTOM
    right = WIDTH - VALUES_WIDTH

    def across(value: float) -> float:
        return NAMES_WIDTH + (math.log10(value) - low) / (high - low) * (right - NAMES_WIDTH)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="12" fill="#222">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="16" y="26" font-size="17" font-weight="bold">{escape(title)}</text>',
        f'<text x="16" y="45" fill="#666">{escape(about)}</text>',
    ]
    for exponent in range(low, high + 1):
        x = across(10.0**exponent)
        colour = "#888" if exponent == 0 else "#ddd"
        lines.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{height - BOTTOM}" stroke="{colour}"/>')
        label = f"{10**exponent:,}x" if exponent >= 0 else f"{10.0**exponent:g}x"
        lines.append(f'<text x="{x:.1f}" y="{height - BOTTOM + 18}" text-anchor="middle" fill="#666">{label}</text>')
    y = TOP
    for group in groups:
        y += GROUP_GAP
        lines.append(f'<text x="16" y="{y - 8}" font-weight="bold">{escape(group.heading)}</text>')
        for bar in group.bars:
            begin, end = sorted((across(1), across(bar.value)))
            middle = y + BAR_HEIGHT - 3
            lines.append(f'<text x="{NAMES_WIDTH - 8}" y="{middle}" text-anchor="end">{escape(bar.name)}</text>')
            lines.append(f'<rect x="{begin:.1f}" y="{y}" width="{max(end - begin, 1):.1f}" height="{BAR_HEIGHT}" '
                         f'fill="{colours[bar.name]}"/>')
            lines.append(f'<text x="{end + 5:.1f}" y="{middle}">{escape(bar.text)}</text>')
            y += STEP
    return "\n".join([*lines, "</svg>"]) + "\n"
