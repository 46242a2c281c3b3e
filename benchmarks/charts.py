"""Bar charts as SVG, without any library: legible on a light and on a dark page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

LABEL_WIDTH, BAR_WIDTH, VALUE_WIDTH = 300, 360, 60
ROW_HEIGHT, BAR_HEIGHT, TOP = 22, 14, 48

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #333 } .title { font-weight: 600 }
.bar { fill: #2f7fd0 } .line { stroke: #777; stroke-width: 1 } .goal { stroke: #d07a00; stroke-width: 2 }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .bar { fill: #5aa2ea } .goal { stroke: #ffb13d } }
"""


@dataclass(frozen=True)
class Bar:
    """``value`` with a mark at ``goal``; None: there is no goal."""

    label: str
    value: float
    goal: float | None = None


def bar_chart(title: str, bars: Sequence[Bar], *, reference: float | None = None) -> str:
    """Horizontal bars from zero; a line through all at ``reference``, and a mark at each goal."""
    most = max([*(bar.value for bar in bars), *(bar.goal or 0 for bar in bars), reference or 0]) or 1.0
    width, height = LABEL_WIDTH + BAR_WIDTH + VALUE_WIDTH, TOP + ROW_HEIGHT * len(bars) + 8

    def across(value: float) -> str:
        return f"{LABEL_WIDTH + value / most * BAR_WIDTH:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f'<text class="title" x="8" y="18">{escape(title)}</text>',
    ]
    for number, bar in enumerate(bars):
        top = TOP + number * ROW_HEIGHT
        wide = bar.value / most * BAR_WIDTH
        parts += [
            f'<text x="{LABEL_WIDTH - 8}" y="{top + 11}" text-anchor="end">{escape(bar.label)}</text>',
            f'<rect class="bar" x="{LABEL_WIDTH}" y="{top}" width="{wide:.1f}" height="{BAR_HEIGHT}" rx="2"/>',
            f'<text x="{width - 8}" y="{top + 11}" text-anchor="end">{bar.value:.3g}</text>',
        ]
        if bar.goal is not None:
            x = across(bar.goal)
            parts.append(f'<line class="goal" x1="{x}" x2="{x}" y1="{top - 3}" y2="{top + BAR_HEIGHT + 3}"/>')
    if reference is not None:
        x = across(reference)
        parts.append(f'<line class="line" x1="{x}" x2="{x}" y1="{TOP - 8}" y2="{height - 4}"/>')
        parts.append(f'<text x="{x}" y="{TOP - 12}" text-anchor="middle">{reference:g}</text>')
    return "\n".join([*parts, "</svg>", ""])
