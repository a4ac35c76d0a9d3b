"""The figures where the documentation shows them: all of it is written by one command, from one file of figures."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks import report
from benchmarks.ratios import best, named
from benchmarks.results import Results
from benchmarks.systems.base import Role, Survives
from benchmarks.workloads import FIGURES

ROOT = Path(__file__).resolve().parents[1]
#: Behind this comment of the README stands a paragraph with figures.
MARK = ".. The figures that matter, written by ``python -m benchmarks --docs``:\n\n"
NOTHING = "—"

#: What a call costs in each durability: a title and the figure, a rate.
COSTS = (
    ("``send``", "send.rate"),
    ("``send`` from 16 threads at once", "group-commit.16"),
    ("``send_many`` of 1,000", "batches.send"),
    ("take and acknowledge", "drain.one"),
    ("loop over ``messages``", "drain.loop"),
)
#: What is compared with other systems.
COMPARED = (
    ("sends, messages/s", "send.rate"),
    ("batches of 1,000, messages/s", "batches.send"),
    ("takes and acknowledgements, messages/s", "drain.one"),
    ("the same by 4 workers, messages/s", "workers.4"),
    ("one-way latency, median, µs", "latency.p50"),
)


def results_of(root: Path = ROOT) -> Results:
    """Return the figures that the documentation shows."""
    return msgspec.json.decode((root / "docs" / "benchmarks.json").read_bytes(), type=Results)


def write(results: Results, root: Path = ROOT) -> None:
    """Write the figures into the documentation: their file, their page with its plots, tables, and the README."""
    from benchmarks import plots

    docs = root / "docs"
    (docs / "benchmarks.json").write_bytes(msgspec.json.format(msgspec.json.encode(results)) + b"\n")
    plots.draw(results, docs / "plots")
    for path, text in texts(results, root).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def texts(results: Results, root: Path = ROOT) -> dict[Path, str]:
    """Return what the files hold that show figures."""
    docs = root / "docs"
    drawn = {name: (f"plots/{name}-light.svg", f"plots/{name}-dark.svg") for name in _workloads(results)}
    return {
        docs / "benchmarks.md": report.markdown(results, drawn),
        docs / "_figures" / "costs.rst": costs(results),
        docs / "_figures" / "comparison.rst": comparison(results),
        root / "README.rst": with_figures((root / "README.rst").read_text(encoding="utf-8"), results),
    }


def costs(results: Results) -> str:
    """Return a table of what a call costs in each durability, in microseconds a message."""
    body = [
        [
            f"``{durability}``",
            *(_cost(results.median(key, f"ours-{durability}")) for _, key in COSTS),
            _cost(results.median("send.rate", f"floor-{durability}")),
        ]
        for durability in ("full", "commit", "process")
    ]
    head = ["µs a message", *(title for title, _ in COSTS), "LMDB alone, a commit"]
    return "\n".join([*_table([head, *body]), "", _measured_on(results), ""])


def comparison(results: Results) -> str:
    """Return tables of ours beside the peers of its class, the best figure of each column in bold."""
    lines: list[str] = []
    for survives in (Survives.PROCESS, Survives.POWER):
        ours = [name for name in named(results, Role.OURS, survives.value) if not name.endswith("-aio")]
        names = [*ours, *named(results, Role.PEER, survives.value)]
        winners = {key: best(results, FIGURES[key], names) for _, key in COMPARED}
        body = []
        for name in names:
            medians = {key: results.median(key, name) for _, key in COMPARED}
            if any(median is not None for median in medians.values()):
                shown = {key: _number(median) for key, median in medians.items()}
                body.append([name, *(f"**{text}**" if winners[key] == name else text for key, text in shown.items())])
        lines += _table([[report.CLASSES[survives.value], *(title for title, _ in COMPARED)], *body])
        lines.append("")
    return "\n".join([*lines, _measured_on(results), ""])


def sentence(results: Results) -> str:
    """Return the figures that matter, in words; empty if they were not measured."""
    process, power = "ours-process", "ours-full"
    rate = results.median("send.rate", process)
    wait = results.median("latency.p50", process)
    safe = results.median("batches.send", power)
    rival = best(results, FIGURES["send.rate"], named(results, Role.PEER, Survives.PROCESS.value))
    theirs = results.median("send.rate", rival) if rival else None
    if rate is None or wait is None or safe is None or not theirs:
        return ""
    return (
        f"**In figures:** one process stores {report.number(rate)} messages a second that survive ``kill -9`` "
        f"({rate / theirs:.1f} times what the best peer there does, {rival}), a waiting subscriber has a message after "
        f"{report.number(wait)} µs, and {report.number(safe)} messages a second survive a power cut, in batches of "
        f"1,000. Measured on {_place(results)}; ``docs/benchmarks.md`` has more, what others do better included."
    )


def with_figures(readme: str, results: Results) -> str:
    """Return the README with the figures of a run."""
    before, mark, behind = readme.partition(MARK)
    if not mark:
        raise ValueError(f"The README lacks the comment {MARK.strip()!r}.")
    # What stands there is one paragraph; code follows it.
    rest = behind[behind.index(".. code-block::") :]
    said = sentence(results)
    paragraph = textwrap.fill(said, 118, break_on_hyphens=False, break_long_words=False) + "\n\n" if said else ""
    return before + mark + paragraph + rest


def _workloads(results: Results) -> list[str]:
    return list(dict.fromkeys(name for name, _ in report.measured_figures(results)))


def _number(value: float | None) -> str:
    return NOTHING if value is None else report.number(value)


def _cost(rate: float | None) -> str:
    return NOTHING if not rate else report.number(1e6 / rate)


def _place(results: Results) -> str:
    machine = results.machine
    cores = f"{machine.processors} core{'s' if machine.processors != 1 else ''}"
    quick = "" if results.size == "full" else ", a quick look"
    return f"{cores} of {machine.processor}, {machine.file_system}, {machine.date[:10]}{quick}"


def _measured_on(results: Results) -> str:
    rounds = f"{results.rounds} round{'s' if results.rounds != 1 else ''}"
    text = (
        f"Messages of 128 bytes, medians of {rounds}, {_place(results)}, {results.machine.python}, "
        f"{results.machine.lmdb}."
    )
    return textwrap.fill(text, 118, break_on_hyphens=False)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in rows:
        lines += [f"   {'*' if not number else ' '} - {cell}" for number, cell in enumerate(row)]
    return lines
