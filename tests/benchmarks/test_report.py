"""Ratios, verdicts and comparisons, from given figures."""

import re
import subprocess
from pathlib import Path

import msgspec
import pytest

from benchmarks import __main__ as command
from benchmarks import compare, pages, plots, report
from benchmarks.errors import BenchmarkError
from benchmarks.machine import describe
from benchmarks.ratios import rows
from benchmarks.results import Failure, Results, SystemRecord
from benchmarks.streams import quantile
from benchmarks.systems import SYSTEMS
from benchmarks.targets import TARGETS, Against, Target, judge, judge_all
from benchmarks.workloads import FIGURES


@pytest.fixture
def results(tmp_path: Path) -> Results:
    names = [
        *("ours-process", "ours-full", "floor-process", "floor-process-nomap", "floor-full"),
        *("litequeue", "redis-everysec", "redis-always", "os-pipe"),
    ]
    records = {
        name: SystemRecord(name, SYSTEMS[name].role.value, SYSTEMS[name].survives.value, SYSTEMS[name].durability)
        for name in names
    }
    records["jetstream"] = SystemRecord("jetstream", "peer", "P", missing="there is no nats-server")
    return Results(machine=describe(tmp_path), size="full", rounds=3, systems=records)


def send(results: Results) -> Results:
    results.values["send.rate"] = {
        "ours-process": [90.0, 100.0, 400.0],
        "floor-process": [200.0],
        "floor-process-nomap": [50.0],
        "litequeue": [25.0],
        "redis-everysec": [10.0],
        "ours-full": [2.0],
        "floor-full": [1.0],
        "redis-always": [4.0],
    }
    return results


def test_rows_compare_within_a_class(results: Results) -> None:
    found = {row.system: row for row in rows(send(results), FIGURES["send.rate"], "P")}
    assert list(found) == ["floor-process", "ours-process", "floor-process-nomap", "litequeue", "redis-everysec"]
    ours = found["ours-process"]
    assert (ours.spread.median, ours.spread.lowest, ours.spread.highest) == (100.0, 90.0, 400.0)
    assert {rival.name: rival.advantage for rival in ours.floors} == {"floor-process": 0.5, "floor-process-nomap": 2.0}
    assert ours.best_peer is not None
    assert (ours.best_peer.name, ours.best_peer.advantage) == ("litequeue", 4.0)


def test_less_is_better_turns_the_ratio_round(results: Results) -> None:
    results.values["latency.p50"] = {"ours-process": [50.0], "litequeue": [800.0], "redis-everysec": [200.0]}
    found = rows(results, FIGURES["latency.p50"], "P")
    assert [row.system for row in found] == ["ours-process", "redis-everysec", "litequeue"]
    assert found[0].best_peer is not None
    assert (found[0].best_peer.name, found[0].best_peer.advantage) == ("redis-everysec", 4.0)


def test_a_loss_is_said(results: Results) -> None:
    shown = report.text(send(results))
    (line,) = [line for line in shown.splitlines() if re.match(r"\s+ours-full\s", line)]
    assert "2.00 x floor-full" in line
    assert "0.50 x redis-always, loses" in line


@pytest.mark.parametrize(
    ("target", "met", "measured"),
    [
        # The better of the two floors counts.
        (Target("send.rate", "ours-process", Against.FLOOR, ">=", 0.5), True, 0.5),
        (Target("send.rate", "ours-process", Against.FLOOR, ">=", 0.51), False, 0.5),
        (Target("send.rate", "ours-process", Against.BEST_PEER, ">=", 5), False, 4.0),
        (Target("send.rate", "ours-full", Against.FLOOR, ">=", 0.9), True, 2.0),
        (Target("send.rate", "ours-full", Against.SYSTEM, ">=", 1, "redis-always"), False, 0.5),
        (Target("send.rate", "ours-process", Against.SYSTEM, "<=", 4, "litequeue"), True, 4.0),
        (Target("send.rate", "ours-process", Against.NOTHING, "<=", 99), False, 100.0),
        (Target("send.rate", "ours-process", Against.SYSTEM, ">=", 1, "jetstream"), None, None),
        (Target("drain.one", "ours-process", Against.FLOOR, ">=", 1), None, None),
    ],
)
def test_verdicts(results: Results, target: Target, met: bool | None, measured: float | None) -> None:
    verdict = judge(send(results), target)
    assert (verdict.met, verdict.measured) == (met, measured)


def test_a_figure_is_compared_with_another_of_its_own(results: Results) -> None:
    results.values["fan-out.1"] = {"ours-full": [10.0]}
    results.values["fan-out.1000"] = {"ours-full": [11.0]}
    target = Target("fan-out.1000", "ours-full", Against.ITSELF, "<=", 1.2, "fan-out.1")
    verdict = judge(results, target)
    assert verdict.met
    assert verdict.measured == pytest.approx(1.1)


def test_targets_name_what_there_is() -> None:
    for target in TARGETS:
        assert target.figure in FIGURES
        assert target.system in SYSTEMS
        if target.against is Against.ITSELF:
            assert target.other in FIGURES
        if target.against is Against.SYSTEM:
            assert target.other in SYSTEMS
        assert target.text
    assert len({(target.figure, target.system, target.against, target.other) for target in TARGETS}) == len(TARGETS)


def test_only_what_was_run_is_judged(results: Results) -> None:
    assert {verdict.target.figure for verdict in judge_all(send(results))} == {"send.rate"}
    assert {verdict.target.system for verdict in judge_all(results)} == {"ours-process", "ours-full"}


def test_what_is_missing_or_failed_is_said(results: Results) -> None:
    results.failures.append(Failure("send", "litequeue", "database is locked"))
    for shown in (report.text(results), report.markdown(results)):
        assert "jetstream: there is no nats-server" in shown
        assert "send, litequeue: database is locked" in shown


def test_the_page_is_made_from_saved_figures(results: Results, tmp_path: Path) -> None:
    saved, page, folder = tmp_path / "figures.json", tmp_path / "page.md", tmp_path / "plots"
    saved.write_bytes(msgspec.json.encode(send(results)))
    words = ["--from-json", str(saved), "--markdown", str(page), "--plots", str(folder)]
    assert command.main(words) == 0
    shown = page.read_text(encoding="utf-8")
    assert "| **ours-process** | 100 | 90 | 400 | 0.50 x floor-process; 2.00 x floor-process-nomap |" in shown
    assert "| **NOT MET** |" in shown
    assert 'srcset="plots/send-dark.svg"' in shown
    assert {path.name for path in folder.iterdir()} == {"send-light.svg", "send-dark.svg"}
    assert "ours-process" in (folder / "send-dark.svg").read_text(encoding="utf-8")
    before = (folder / "send-light.svg").read_bytes()
    plots.draw(results, folder)
    assert (folder / "send-light.svg").read_bytes() == before


def test_figures_of_a_longer_run_stand_in_place(results: Results, tmp_path: Path) -> None:
    short, long, page = tmp_path / "short.json", tmp_path / "long.json", tmp_path / "page.md"
    short.write_bytes(msgspec.json.encode(send(results)))
    longer = msgspec.structs.replace(send(results), size="full", rounds=7)
    longer.values = {"send.rate": {"ours-process": [123_456.0]}}
    long.write_bytes(msgspec.json.encode(longer))
    assert command.main(["--from-json", str(short), str(long), "--markdown", str(page)]) == 0
    shown = page.read_text(encoding="utf-8")
    assert "123,456" in shown
    assert "- send: " in shown
    assert "7 rounds (full)" in shown
    assert "0.50 x floor-process" not in shown


@pytest.mark.parametrize("path", pages.texts(pages.results_of()), ids=lambda path: path.name)
def test_the_documentation_shows_the_figures_of_its_file(path: Path) -> None:
    again = "run python -m benchmarks --from-json docs/benchmarks.json --docs"
    assert path.read_text(encoding="utf-8") == pages.texts(pages.results_of())[path], again


def test_the_documentation_is_written_from_any_figures(results: Results, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    readme = tmp_path / "README.rst"
    readme.write_text(f"before\n\n{pages.MARK}old.\n\n.. code-block:: python\n", encoding="utf-8")
    pages.write(send(results), tmp_path)
    assert readme.read_text(encoding="utf-8") == f"before\n\n{pages.MARK}.. code-block:: python\n"
    results.values["latency.p50"] = {"ours-process": [50.0]}
    results.values["batches.send"] = {"ours-full": [7_000.0]}
    pages.write(results, tmp_path)
    paragraph = " ".join(readme.read_text(encoding="utf-8").split())
    assert (
        "100 messages a second that survive ``kill -9`` (4.0 times what the best peer there does, litequeue)"
        in paragraph
    )
    assert "after 50 µs, and 7,000 messages a second survive a power cut" in paragraph
    costs = (tmp_path / "docs" / "_figures" / "costs.rst").read_text(encoding="utf-8").split()
    assert costs[costs.index("``process``") :][:3] == ["``process``", "-", "10,000"]
    compared = (tmp_path / "docs" / "_figures" / "comparison.rst").read_text(encoding="utf-8").split()
    assert compared[compared.index("redis-always") :][:3] == ["redis-always", "-", "**4**"]
    assert pages.results_of(tmp_path) == results


def test_two_revisions_are_compared(results: Results) -> None:
    results.values["send.rate"] = {"ours-full@a": [10.0, 11.0], "ours-full@b": [21.0, 21.0]}
    results.values["latency.p50"] = {"ours-full@a": [10.0, 30.0], "ours-full@b": [20.0, 40.0]}
    lines = compare.text(results, "a", "b").splitlines()
    assert [line for line in lines if re.search(r"send\.rate .* 2\.00 x \(better\)$", line)]
    assert [line for line in lines if re.search(r"latency\.p50 .* 0\.67 x \(same\)$", line)]


def test_a_revision_is_unpacked_and_a_wrong_one_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "persipubsub" / "__init__.py"
    package.parent.mkdir()
    package.write_text("old")
    for words in ("init -q", "add .", "-c user.name=a -c user.email=a@b commit -q -m old"):
        subprocess.run(["git", "-C", tmp_path, *words.split()], check=True, timeout=60)
    package.write_text("new")
    monkeypatch.setattr(compare, "ROOT", tmp_path)
    with compare.revisions(["HEAD", "."]) as sources:
        found = {name: (source / "persipubsub" / "__init__.py").read_text() for name, source in sources.items()}
        assert found == {"HEAD": "old", ".": "new"}
    with pytest.raises(BenchmarkError, match="no-such-revision"), compare.revisions(["no-such-revision", "."]):
        pass
    with pytest.raises(BenchmarkError, match="itself"), compare.revisions(["HEAD", "HEAD"]):
        pass


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--systems", "rabbit"], "There is no system 'rabbit'"),
        (["--workloads", "flood"], "There is no workload 'flood'"),
        (["--rounds", "-1"], "--rounds has to be 1 or more"),
        (["--compare", "HEAD", ".", "--systems", "floors"], "Only systems of ours have revisions"),
    ],
)
def test_wrong_use_is_refused(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(words) == 2
    assert message in capsys.readouterr().err


def test_quantiles() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [quantile(values, share) for share in (0.5, 0.99, 0.999, 1.0)] == [50.0, 99.0, 100.0, 100.0]
    assert quantile([7.0], 0.99) == 7.0
