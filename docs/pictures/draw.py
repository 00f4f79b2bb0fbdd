"""Draws the pictures of docs/verdicts.md from seeded simulations: `python docs/pictures/draw.py`.

Plain SVG text and numpy; the numbers that the page quotes are printed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluator.evidence.bets import Blocks, promote
from evaluator.evidence.confidence import interval

Floats = NDArray[np.float64]

HERE = Path(__file__).parent
ALPHA, MARGIN, SUITE = 0.05, 0.05, 0.8
A_DAY, OF_SUITE = 10, 10  # labels a day in the unique set, labels of the suite per one of those
WIDTH = 820

STYLE = """
svg { color-scheme: light dark; font: 14px system-ui, sans-serif }
.paper { fill: #ffffff } text { fill: #24292f } .soft { fill: #57606a }
.grid { stroke: #d0d7de; stroke-width: 1 }
.limit { stroke: #57606a; stroke-width: 1.5; stroke-dasharray: 6 4 }
.line { fill: none; stroke-width: 2.5; stroke-linejoin: round }
.a { stroke: #cf222e } .b { stroke: #bc6c00 } .c { stroke: #8250df } .d { stroke: #0969da }
text.a { fill: #cf222e } text.b { fill: #9a5800 } text.c { fill: #8250df } text.d { fill: #0969da }
text.a, text.b, text.c, text.d { stroke: none; font-weight: 600 } .band { fill: #0969da; fill-opacity: .18 }
@media (prefers-color-scheme: dark) {
  .paper { fill: #0d1117 } text { fill: #e6edf3 } .soft { fill: #9198a1 }
  .grid { stroke: #30363d } .limit { stroke: #9198a1 }
  .a { stroke: #ff7b72 } .b { stroke: #e3a04f } .c { stroke: #bc8cff } .d { stroke: #58a6ff }
  text.a { fill: #ff7b72 } text.b { fill: #e3a04f } text.c { fill: #bc8cff } text.d { fill: #58a6ff }
  .band { fill: #58a6ff; fill-opacity: .22 }
}
"""


class Panel:
    """One pair of axes: maps figures to pixels and collects SVG elements."""

    def __init__(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        box: tuple[int, int, int, int],
        *,
        log: bool = False,
    ) -> None:
        self.x, self.y, self.log, self.parts = x, y, log, list[str]()
        self.left, self.top, self.right, self.bottom = box

    def across(self, value: float) -> float:
        low, high = self.x
        share = math.log(value / low) / math.log(high / low) if self.log else (value - low) / (high - low)
        return self.left + share * (self.right - self.left)

    def up(self, value: float) -> float:
        low, high = self.y
        return self.bottom - (value - low) / (high - low) * (self.bottom - self.top)

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> None:
        """Words at a place in pixels."""
        self.parts.append(
            f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'
        )

    def axes(self, xs: Sequence[float], ys: Sequence[float], percent: bool = False) -> None:
        """Grid lines and their figures."""
        for v in ys:
            self.level(v, "grid")
            words = f"{100 * v:.0f} %" if percent else f"{v:g}"
            self.text(self.left - 8, self.up(v) + 5, words, "soft", "end")
        for v in xs:
            self.text(self.across(v), self.bottom + 20, f"{v:,g}", "soft", "middle")

    def level(self, value: float, kind: str) -> None:
        """A line from left to right."""
        y = self.up(value)
        self.parts.append(
            f'<line class="{kind}" x1="{self.left}" x2="{self.right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )

    def points(self, xs: Sequence[float], ys: Sequence[float]) -> str:
        return " ".join(f"{self.across(x):.1f},{self.up(y):.1f}" for x, y in zip(xs, ys, strict=True))

    def line(self, xs: Sequence[float], ys: Sequence[float], kind: str) -> None:
        self.parts.append(f'<polyline class="line {kind}" points="{self.points(xs, ys)}"/>')

    def band(self, xs: Sequence[float], low: Sequence[float], high: Sequence[float]) -> None:
        there = self.points(xs, low)
        back = self.points(xs[::-1], high[::-1])
        self.parts.append(f'<polygon class="band" points="{there} {back}"/>')


def save(name: str, title: str, height: int, panels: Sequence[Panel]) -> None:
    """One SVG file of several panels."""
    body = "\n".join(part for panel in panels for part in panel.parts)
    text = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n"
        f'<rect class="paper" width="{WIDTH}" height="{height}" rx="6"/>\n{body}\n</svg>\n'
    )
    (HERE / name).write_text(text)


def ever(hit: NDArray[np.bool_]) -> Floats:
    """Share of streams [streams, looks] in which a rule was believed at this look or before."""
    out: Floats = np.logical_or.accumulate(hit, axis=1).mean(axis=0)
    return out


def false_promotions(streams: int = 2000, looks: int = 5000) -> dict[str, Floats]:
    """Shares of false promotions by look, one after each label, for a candidate that is exactly δ worse."""
    rng = np.random.default_rng(1)
    n = np.arange(1, looks + 1)
    s_c = rng.binomial(1, SUITE - MARGIN, (streams, looks)).cumsum(1)
    s_o = rng.binomial(OF_SUITE, SUITE, (streams, looks)).cumsum(1)
    p_c, p_o = s_c / n, s_o / (OF_SUITE * n)
    z = 1.645
    spread = z * np.sqrt(p_c * (1 - p_c) / n + z**2 / (4 * n**2))
    wilson = (p_c + z**2 / (2 * n) - spread) / (1 + z**2 / n)
    error = np.sqrt(np.maximum(p_c * (1 - p_c) + p_o * (1 - p_o) / OF_SUITE, 1e-12) / n)
    enough = n >= 30  # the usual rule of thumb for z
    days = slice(A_DAY - 1, None, A_DAY)
    blocks = Blocks.from_counts(
        np.diff(s_c[:, days], prepend=0), A_DAY, np.diff(s_o[:, days], prepend=0), A_DAY * OF_SUITE
    )
    evidence = promote(blocks, margin=MARGIN)
    believed = (evidence.log_e >= math.log(1 / ALPHA)) & ~evidence.veto
    ours = np.zeros((streams, looks), dtype=np.bool_)
    ours[:, days] = believed
    return {
        "a": ever((p_c >= p_o - MARGIN) & (n >= 100)),
        "b": ever((p_c - p_o + MARGIN >= z * error) & enough),
        "c": ever(wilson >= SUITE - MARGIN),
        "d": ever(ours),
    }


def draw_looks() -> None:
    """Picture 1."""
    shares = false_promotions()
    looks = len(shares["a"])
    at = np.unique(np.geomspace(10, looks, 240).astype(int))
    panel = Panel((10, looks), (0, 1), (60, 60, 560, 360), log=True)
    panel.text(20, 30, "Wrong promotions of a candidate that is 0.05 worse, when each label is looked at")
    panel.axes([10, 100, 1000, 5000], [0, 0.2, 0.4, 0.6, 0.8, 1], percent=True)
    panel.level(ALPHA, "limit")
    panel.text(panel.across(130), panel.up(ALPHA) - 6, "the 5 % that each rule promises", "soft")
    names = {
        "a": "estimate, ≥ 100 labels",
        "b": "z test, 5 %",
        "c": "Wilson bound, 95 %",
        "d": "e-value ≥ 20",
    }
    places: list[float] = []
    for kind, name in names.items():
        panel.line(at.tolist(), shares[kind][at - 1].tolist(), kind)
        y = panel.up(float(shares[kind][-1])) + 5
        while any(abs(y - other) < 17 for other in places):
            y += 1
        places.append(y)
        panel.text(panel.right + 10, y, f"{name}: {100 * shares[kind][-1]:.0f} %", kind)
        print(f"{name}: {shares[kind][99]:.3f} after 100 looks, {shares[kind][-1]:.3f} after {looks}")
    panel.text(
        (panel.left + panel.right) / 2, panel.bottom + 44, "looks, one after each label", "soft", "middle"
    )
    save("looks.svg", "Share of false promotions by the number of looks, by rule", 420, [panel])


def draw_evidence(seed: int = 3, days: int = 60, gap: float = 0.05) -> None:
    """Picture 2."""
    rng = np.random.default_rng(seed)
    n_c, n_o = rng.poisson(A_DAY, days), rng.poisson(A_DAY * OF_SUITE, days)
    s_c, s_o = rng.binomial(n_c, SUITE + gap), rng.binomial(n_o, SUITE)
    evidence = promote(Blocks.from_counts(s_c, n_c, s_o, n_o), margin=MARGIN)
    low, high = interval(s_c.cumsum(), n_c.cumsum(), ALPHA)
    at = int(evidence.crossing(ALPHA))
    day = np.arange(1, days + 1).tolist()
    limit = math.log(1 / ALPHA)

    above = Panel((1, days), (-1, 7), (60, 60, 560, 270))
    above.text(20, 30, "What one candidate's evidence looks like, day by day")
    above.axes([], [0, 2, 4, 6])
    above.level(limit, "limit")
    above.text(above.right + 10, above.up(limit) + 5, f"ln(1/0.05) = {limit:.2f}", "soft")
    above.line(day, evidence.log_e.tolist(), "d")
    above.text(above.right + 10, above.up(float(evidence.log_e[-1])) + 5, "log e-value", "d")
    below = Panel((1, days), (0.4, 1), (60, 310, 560, 500))
    below.axes([1, 10, 20, 30, 40, 50, 60], [0.4, 0.6, 0.8, 1])
    below.band(day, np.clip(low, 0.4, 1).tolist(), high.tolist())
    below.line(day, evidence.pooled_c.tolist(), "d")
    below.line(day, evidence.pooled_o.tolist(), "b")
    below.text(below.right + 10, below.up(float(evidence.pooled_c[-1])) - 2, "unique precision", "d")
    below.text(below.right + 10, below.up(float(evidence.pooled_c[-1])) + 15, "with its interval", "d")
    below.text(below.right + 10, below.up(float(evidence.pooled_o[-1])) + 20, "precision of the suite", "b")
    below.text((below.left + below.right) / 2, below.bottom + 44, "days", "soft", "middle")
    if at >= 0:
        x = above.across(at + 1)
        above.parts.append(
            f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="{above.top}" y2="{below.bottom}"/>'
        )
        above.text(x - 8, above.top + 14, f"PROMOTE on day {at + 1}", anchor="end")
        labels = int(n_c[: at + 1].sum())
        print(f"seed {seed}: day {at + 1}, {labels} labels, interval {low[at]:.2f} to {high[at]:.2f}")
        print(f"pooled {evidence.pooled_c[at]:.3f} against {evidence.pooled_o[at]:.3f}")
    save(
        "evidence.svg",
        "One candidate's log e-value and confidence sequence over 60 days",
        560,
        [above, below],
    )


if __name__ == "__main__":
    draw_looks()
    draw_evidence()
