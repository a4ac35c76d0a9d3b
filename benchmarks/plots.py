"""Plots of the figures, on light and on dark ground."""

import re
from pathlib import Path

from benchmarks.ratios import Row, rows
from benchmarks.report import CLASSES, measured_figures, number
from benchmarks.results import Results
from benchmarks.systems.base import Role
from benchmarks.workloads import WORKLOADS, Figure

#: The colours of roles that are not ours, and of ours on a server.
_LIGHT = {"floor": "#8c959f", "peer": "#d4a72c", "reference": "#d0d7de", "remote": "#80ccff"}
_DARK = {"floor": "#6e7681", "peer": "#d29922", "reference": "#30363d", "remote": "#1f6feb"}
#: Ground, text, and the colours of all roles.
THEMES = {
    "light": ("#ffffff", "#1f2328", {"ours": "#0969da", **_LIGHT}),
    "dark": ("#0d1117", "#e6edf3", {"ours": "#58a6ff", **_DARK}),
}
WIDTH = 8.0
BAR = 0.2


def draw(results: Results, folder: Path) -> dict[str, tuple[Path, Path]]:
    """Draw a plot for each workload into ``folder``; return the paths of the light and the dark ones.

    The first figure of a workload is drawn, on a logarithmic axis where that can be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn: dict[str, tuple[Path, Path]] = {}
    for name, figure in measured_figures(results):
        if name in drawn:
            continue
        light, dark = (folder / f"{name}-{theme}.svg" for theme in THEMES)
        for theme, path in zip(THEMES, (light, dark), strict=True):
            _draw(results, WORKLOADS[name].title, figure, theme, path)
        drawn[name] = (light, dark)
    return drawn


def _draw(results: Results, title: str, figure: Figure, theme: str, path: Path) -> None:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Drawing

    ground, ink, colours = THEMES[theme]
    groups: list[tuple[str, list[Row]]] = [
        (label, found) for survives, label in CLASSES.items() if (found := rows(results, figure, survives))
    ]
    bars = sum(len(found) for _, found in groups)
    drawing = Drawing(figsize=(WIDTH, 0.9 + BAR * (bars + 1.5 * len(groups))), facecolor=ground)
    FigureCanvasSVG(drawing)
    axes = drawing.add_subplot(facecolor=ground)
    position = 0.0
    ticks: list[float] = []
    names: list[str] = []
    for label, found in groups:
        axes.text(
            0.0,
            position,
            label,
            transform=axes.get_yaxis_transform(),
            color=ink,
            fontsize=8,
            va="center",
            style="italic",
        )
        position += 1
        for row in found:
            axes.barh(position, row.spread.median, color=colours[row.role], height=0.75)
            if row.spread.lowest < row.spread.highest:
                low, high = row.spread.median - row.spread.lowest, row.spread.highest - row.spread.median
                axes.errorbar(row.spread.median, position, xerr=[[low], [high]], color=ink, linewidth=0.8, capsize=2)
            axes.annotate(
                number(row.spread.median),
                (row.spread.highest, position),
                xytext=(4, 0),
                textcoords="offset points",
                color=ink,
                fontsize=7,
                va="center",
            )
            ticks.append(position)
            names.append(row.system)
            position += 1
        position += 0.5
    if all(row.spread.lowest > 0 for _, found in groups for row in found):
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_ylim(position - 0.3, -0.7)
    axes.margins(x=0.12)
    axes.set_yticks(ticks, names, fontsize=8, color=ink)
    axes.tick_params(colors=ink, labelsize=8, length=2)
    axes.set_title(f"{title}: {figure.title}", color=ink, fontsize=10, loc="left")
    axes.set_xlabel(f"{figure.unit}, {'more' if figure.higher else 'less'} is better", color=ink, fontsize=8)
    for edge in axes.spines.values():
        edge.set_visible(False)
    for tick, row_name in zip(axes.get_yticklabels(), names, strict=True):
        if results.systems[row_name].role == Role.OURS.value:
            tick.set_fontweight("bold")
    drawing.tight_layout()
    import matplotlib as mpl

    # Text as text and no date: the files stay small, and change only when the figures do.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "persipubsub"}):
        drawing.savefig(path, format="svg", metadata={"Date": None}, facecolor=ground)
    drawn = re.sub(r"(\d\.\d\d)\d+", r"\1", path.read_text(encoding="utf-8"))
    path.write_text("".join(line.strip() + "\n" for line in drawn.splitlines()), encoding="utf-8")
