"""The demo on a small folder: real processes, a real kill, and a verdict that can be bad."""

import json
import os
import pathlib
import pty
import random
import signal
import subprocess
import sys
from typing import Any

import pytest

from persipubsub.demo import files, job, verdict
from persipubsub.demo.files import Original
from persipubsub.demo.journal import Journal, JournalReader, Line
from tests.process.support import BOUND

REPOSITORY = pathlib.Path(__file__).parent.parent.parent


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """Give a folder with 61 files: small and large, empty, equal ones, and one whose name is no text."""
    root = tmp_path / "folder"
    source = random.Random(1)
    for number in range(57):
        place = root / f"sub {number % 5}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"file-{number}.bin").write_bytes(source.randbytes(source.choice((10, 1000, 50_000))))
    (root / "empty").write_bytes(b"")
    (root / "large").write_bytes(source.randbytes(3_000_000))
    (root / "grüezi\n").write_bytes(b"same")
    with open(os.path.join(os.fsencode(root), b"\xff.bin"), "wb") as stream:
        stream.write(b"same")
    (root / "link").symlink_to("empty")
    return root


def run_demo(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "persipubsub.cli", "demo", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=2 * BOUND,
    )


def test_demo_loses_nothing_though_it_kills(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    directory = tmp_path / "work"
    done = run_demo(folder, "--directory", directory, "--json")
    assert done.returncode == 0, (done.stdout, done.stderr)
    document = json.loads(done.stdout)
    assert document["passed"]
    assert (document["files"], document["sent"], document["received"], document["lost"]) == (61, 61, 183, 0)
    assert document["problems"] == []
    # The message that the killed worker held went to another one.
    assert document["subscribers"]["workers"]["redelivered"] >= 1
    assert "killed worker" in done.stderr
    victim = JournalReader(directory / "journals" / "worker-1.jsonl").read()
    assert victim[-1].event == "holding"
    others = [
        line
        for name in ("worker-2", "worker-3")
        for line in JournalReader(directory / "journals" / f"{name}.jsonl").read()
        if line.id == victim[-1].id and line.event == "received"
    ]
    assert [line.redelivered for line in others] == [True]


def test_demo_prints_the_figures_and_leaves_nothing_behind(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "persipubsub.cli", "demo", str(folder)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=2 * BOUND,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "sent 61, received 183, redelivered " in done.stdout
    assert "lost 0" in done.stdout
    assert "SHA-256" in done.stdout
    assert os.listdir(temporary) == []


def test_demo_on_a_terminal_shows_bars(folder: pathlib.Path) -> None:
    parent, child = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "persipubsub.cli", "demo", str(folder)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TERM": "xterm", "COLUMNS": "120"},
        stdout=child,
        stderr=child,
    ) as process:
        os.close(child)
        shown = b""
        while chunk := _read(parent):
            shown += chunk
        assert process.wait(BOUND) == 0, shown
    os.close(parent)
    for expected in (b"61/61", b" killed", b"lost 0"):
        assert expected in shown


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""


@pytest.mark.parametrize("count", [1, 2, 3])
def test_demo_kills_a_worker_even_with_few_files(tmp_path: pathlib.Path, count: int) -> None:
    (tmp_path / "few").mkdir()
    for number in range(count):
        (tmp_path / "few" / str(number)).write_text(str(number))
    states: list[job.Progress] = []
    outcome = job.run(tmp_path / "few", tmp_path / "work", states.append)
    assert outcome.passed, outcome
    assert outcome.subscribers["workers"].redelivered >= 1
    assert states[-1].killed is not None
    assert states[-1].received == {"archive": count, "index": count, "workers": count}


def test_demo_with_a_wrong_original_is_status_1(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def collect(given: pathlib.Path | None) -> tuple[pathlib.Path, list[Original]]:
        root, originals = files.collect(given)
        first = originals[0]
        return root, [Original(first.path, first.size, "0" * 64), *originals[1:]]

    monkeypatch.setattr(job, "collect", collect)
    from persipubsub.cli.app import run

    assert run(["demo", str(folder)]) == 1
    out = capfd.readouterr().out
    assert "differs from the original" in out
    assert "lost 3" in out


def test_demo_reports_a_publisher_that_fails(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    states: list[job.Progress] = []

    def report(state: job.Progress) -> None:
        if not states:
            (folder / "large").unlink()
        states.append(state)

    # Removed after it was collected: the first report comes before the publishers have sent anything.
    outcome = job.run(folder, tmp_path / "work", report)
    assert not outcome.passed
    assert any("publisher" in problem for problem in outcome.problems)


def test_no_process_outlives_the_demo(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Kill the parent alone, and see that all its children end."""
    directory = tmp_path / "work"
    # The children inherit the pipe; it ends when the last of them does.
    process = subprocess.Popen(
        [sys.executable, "-m", "persipubsub.cli", "demo", str(folder), "--directory", str(directory)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.stdout.read()
    process.stdout.close()
    assert process.wait(BOUND) == -signal.SIGKILL


def test_ctrl_c_ends_the_demo_quietly(folder: pathlib.Path) -> None:
    for number in range(5000):  # it must not be over before the interrupt comes
        (folder / f"more-{number}").write_bytes(b"%d" % number)
    process = subprocess.Popen(
        [sys.executable, "-m", "persipubsub.cli", "demo", str(folder)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=BOUND)
    assert (process.returncode, errors) == (130, b"")


# -- the pieces -----------------------------------------------------------------------------------


def line(path: str, sha256: str, **more: Any) -> Line:
    return Line("received", at=more.pop("at", 1.0), path=path, sha256=sha256, declared=sha256, **more)


def test_verdict_finds_what_is_missing_altered_or_unknown() -> None:
    originals = [Original("a", 1, "aa"), Original("b", 1, "bb"), Original("c", 1, "cc")]
    sent = [Line("sent", at=0.0, path=path) for path in "abc"]
    good = [line("a", "aa"), line("b", "bb"), line("c", "cc", at=2.0)]
    whole = verdict.judge(originals, sent, {"s": good})
    assert whole.passed
    assert (whole.received, whole.lost, whole.seconds, whole.rate) == (3, 0, 2.0, 1.5)
    again = verdict.judge(originals, sent, {"s": [*good, line("a", "aa", redelivered=True)]})
    assert again.passed
    assert (again.received, again.redelivered, again.subscribers["s"].deliveries) == (3, 1, 4)
    missing = verdict.judge(originals, sent, {"s": good[1:], "t": good})
    assert not missing.passed
    assert missing.subscribers["s"].missing == ("a",)
    altered = verdict.judge(originals, sent, {"s": [*good[1:], line("a", "ab")]})
    assert not altered.passed
    assert altered.subscribers["s"].altered == ("a",)
    assert not verdict.judge(originals, sent, {"s": [*good, line("d", "dd")]}).passed
    assert not verdict.judge(originals, sent[:2], {"s": good}).passed
    assert not verdict.judge(originals, [*sent, sent[0]], {"s": good}).passed
    assert not verdict.judge(originals, [], {"s": []}).passed
    assert not verdict.judge(originals, sent, {"s": good}, ["the queue is damaged"]).passed


def test_a_header_that_lies_is_found() -> None:
    lie = Line("received", at=1.0, path="a", sha256="aa", declared="ab")
    outcome = verdict.judge([Original("a", 1, "aa")], [Line("sent", at=0.0, path="a")], {"s": [lie]})
    assert outcome.subscribers["s"].altered == ("a",)


def test_journal_ignores_a_cut_last_line(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "journal"
    reader = JournalReader(file)
    assert reader.read() == []
    journal = Journal(file)
    journal.write("sent", id=1, path="\udcff")
    with open(file, "ab") as stream:
        stream.write(b'{"event": "se')
    assert [(found.id, found.path) for found in reader.read()] == [(1, "\udcff")]
    with open(file, "ab") as stream:
        stream.write(b'nt", "at": 1, "id": 2}\n')
    assert [found.id for found in reader.read()] == [2]


def test_default_folder_is_the_standard_library() -> None:
    root, originals = files.collect(None)
    paths = {original.path for original in originals}
    assert "json/decoder.py" in paths
    assert all(path.endswith(".py") and "site-packages" not in path for path in paths)
    assert len(paths) > 500
    assert root == files.standard_library()


def test_folder_without_files_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "sub").mkdir()
    with pytest.raises(files.NothingToSendError, match="no files"):
        files.collect(tmp_path)
    with pytest.raises(files.NothingToSendError, match="not a folder"):
        files.collect(tmp_path / "missing")
