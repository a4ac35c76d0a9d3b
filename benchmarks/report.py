"""The figures as text for a terminal, and as a page of Markdown."""

from collections.abc import Sequence

from benchmarks.ratios import Rival, Row, rows
from benchmarks.results import Results, Spread
from benchmarks.systems.base import Role, Survives
from benchmarks.targets import Against, Verdict, judge_all
from benchmarks.workloads import WORKLOADS, Figure

CLASSES = {
    Survives.PROCESS.value: "Class P: survives kill -9",
    Survives.POWER.value: "Class S: survives power loss",
    Survives.NOTHING.value: "For reference: keeps nothing",
}
HEAD = ("system", "median", "lowest", "highest", "of the floor", "of the best peer")


def number(value: float) -> str:
    """Return a figure with three digits that count."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def versus(rival: Rival) -> str:
    """Say how a system does beside another."""
    word = "" if rival.advantage >= 1 else ", loses"
    return f"{rival.advantage:.2f} x {rival.name}{word}"


def cells(row: Row) -> tuple[str, ...]:
    """Return the cells of a row."""
    spread: Spread = row.spread
    floors = "; ".join(f"{rival.advantage:.2f} x {rival.name}" for rival in row.floors)
    peer = "" if row.best_peer is None else versus(row.best_peer)
    return (row.system, number(spread.median), number(spread.lowest), number(spread.highest), floors, peer)


def verdict_cells(verdict: Verdict) -> tuple[str, str, str]:
    """Return the target, what was measured, and what became of it."""
    outcome = {True: "met", False: "NOT MET", None: "not measured"}[verdict.met]
    if verdict.measured is None:
        return verdict.target.text, "", outcome
    if verdict.target.against is Against.NOTHING:
        return verdict.target.text, number(verdict.measured), outcome
    return verdict.target.text, f"{verdict.measured:.2f} x {verdict.divisor}", outcome


def facts(results: Results) -> list[str]:
    """Say what was measured, when and on what."""
    machine = results.machine
    versions: dict[str, str] = {}
    for record in results.systems.values():
        versions.update(record.versions)
    packages = "".join(f", {name} {version}" for name, version in versions.items() if name != "lmdb")
    where = f"{machine.memory_gib:g} GiB, {machine.system}, queues on {machine.file_system}"
    others: dict[str, list[str]] = {}
    for figure, how in results.elsewhere.items():
        others.setdefault(how, []).append(figure.partition(".")[0])
    return [
        results.how,
        *(f"{', '.join(dict.fromkeys(names))}: {how}" for how, names in others.items()),
        f"{machine.processor}, {machine.processors} processors, {where}",
        f"{machine.python}, {machine.lmdb}{packages}",
    ]


def absences(results: Results) -> list[str]:
    """Name the systems that were asked for and are not there, and the measurements that failed."""
    missing = [f"{record.name}: {record.missing}" for record in results.systems.values() if record.missing]
    failed = [f"{failure.workload}, {failure.system}: {failure.message}" for failure in results.failures]
    return [f"Not measured: {line}" for line in missing] + [f"Failed: {line}" for line in failed]


def measured_figures(results: Results) -> list[tuple[str, Figure]]:
    """Return the figures that the run has, with their workloads."""
    return [
        (name, figure)
        for name, workload in WORKLOADS.items()
        for figure in workload.figures
        if figure.key in results.values
    ]


def text(results: Results) -> str:
    """Return the report for a terminal."""
    lines = [*facts(results), *absences(results)]
    last = ""
    for name, figure in measured_figures(results):
        if name != last:
            lines += ["", f"=== {WORKLOADS[name].title}"]
            last = name
        lines += ["", f"{figure.key}: {figure.title}, {figure.unit} ({'more' if figure.higher else 'less'} is better)"]
        for survives, title in CLASSES.items():
            found = rows(results, figure, survives)
            if found:
                lines += [f"  {title}", *table([HEAD, *map(cells, found)], indent="    ")]
    verdicts = judge_all(results)
    if verdicts:
        lines += [
            "",
            "=== Targets",
            *table([verdict_cells(verdict) for verdict in verdicts], indent="  "),
            counts(verdicts),
        ]
    return "\n".join(lines)


def counts(verdicts: Sequence[Verdict]) -> str:
    """Say how many targets were met."""
    met = sum(verdict.met is True for verdict in verdicts)
    missed = sum(verdict.met is False for verdict in verdicts)
    return f"{met} met, {missed} not met, {len(verdicts) - met - missed} not measured."


def table(lines: Sequence[Sequence[str]], indent: str = "") -> list[str]:
    """Return lines of cells in columns."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        (indent + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))).rstrip()
        for line in lines
    ]


def markdown(results: Results, plots: dict[str, tuple[str, str]] | None = None) -> str:
    """Return the page; ``plots`` maps workloads to the paths of their light and dark plots."""
    lines = ["# Benchmarks", "", INTRODUCTION, ""]
    lines += [f"- {fact}" for fact in facts(results)]
    lines += [f"- {line}" for line in absences(results)]
    verdicts = judge_all(results)
    if verdicts:
        lines += ["", "## Targets", "", counts(verdicts), ""]
        lines += markdown_table(
            ("target", "measured", ""), [emphasized(verdict_cells(verdict)) for verdict in verdicts]
        )
    last = ""
    for name, figure in measured_figures(results):
        if name != last:
            last = name
            workload = WORKLOADS[name]
            lines += ["", f"## {workload.title}", "", workload.about]
            if plots and name in plots:
                light, dark = plots[name]
                lines += ["", picture(workload.title, light, dark)]
            skipped = results.skipped.get(name)
            if skipped:
                lines += ["", "Left out: " + ", ".join(f"{system} ({why})" for system, why in skipped.items()) + "."]
        lines += ["", f"**{figure.title}**, {figure.unit}, {'more' if figure.higher else 'less'} is better"]
        for survives, title in CLASSES.items():
            found = rows(results, figure, survives)
            if found:
                lines += ["", *markdown_table((title, *HEAD[1:]), [ours_in_bold(row) for row in found])]
    notes = [f"- {record.name}: {record.note}" for record in results.systems.values() if record.note]
    if notes:
        lines += ["", "## Notes", "", *notes]
    return "\n".join(lines) + "\n"


INTRODUCTION = """\
Written by `python -m benchmarks --markdown`. Systems are compared within a class only: P survives `kill -9`, S
survives power loss, too. The floor is py-lmdb itself: what a queue on LMDB cannot do faster. Each system is measured in
processes of its own, one system after the other in every round. Shown are medians over the rounds with the lowest and
the highest; a ratio above 1 says that we are faster, one below 1 that we are slower. Differences below a factor of 2
are within what machines do from minute to minute. ours-nats is our classes over a JetStream server: to be compared with
jetstream, the bare client of the same server."""


def markdown_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Return a table of Markdown."""
    return ["| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *body]]


def ours_in_bold(row: Row) -> tuple[str, ...]:
    """Return the cells of a row, the name in bold if it is ours."""
    name, *rest = cells(row)
    return (f"**{name}**" if row.role in (Role.OURS.value, Role.REMOTE.value) else name, *rest)


def emphasized(line: tuple[str, str, str]) -> tuple[str, str, str]:
    """Return the cells of a verdict, in bold if the target was missed."""
    return (line[0], line[1], f"**{line[2]}**" if line[2].isupper() else line[2])


def picture(title: str, light: str, dark: str) -> str:
    """Return an image that follows the reader's colours."""
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img alt="{title}" src="{light}"></picture>'
    )
