"""Care by the command line: what each command does, prints, and answers."""

import io
import json
import os
import pathlib
import shutil
from typing import Any

import pytest

from persipubsub import Environment
from persipubsub.cli import app as cli
from tests.care.support import picture
from tests.process.support import Children, open_subscriber


class Shell:
    """Runs commands in this process."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def __call__(self, *arguments: object, code: int = 0) -> str:
        self._capfd.readouterr()
        status = cli.run([str(argument) for argument in arguments])
        out, err = self._capfd.readouterr()
        assert status == code, (out, err)
        return err if code == 2 else out

    def json(self, *arguments: object, code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", code=code))


@pytest.fixture
def shell(capfd: pytest.CaptureFixture[str], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PERSIPUBSUB_CONFIG", raising=False)
    return Shell(capfd)


def test_backup_and_restore(shell: Shell, queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    assert "verified" in shell("backup", queue, "first")
    second = shell.json("backup", queue, "second")
    assert second["backup"] == "second"
    assert second["bytes"] == os.stat("second/data.mdb").st_size
    assert "already" in shell("backup", queue, "first", code=2)
    shell("backup", queue, code=2)
    assert shell.json("restore", "first", "restored") == {"path": str(tmp_path / "restored")}
    assert picture(tmp_path / "restored") == picture(queue)
    assert "already" in shell("restore", "first", "restored", code=2)
    shell("restore", "second", "moved", "--keep-identity")
    with Environment("moved") as moved, Environment(queue) as original:
        assert moved.open_control().statistics().identity == original.open_control().statistics().identity


def test_compact(shell: Shell, queue: pathlib.Path, children: Children) -> None:
    done = shell.json("compact", queue)
    assert 0 < done["after"] <= done["before"]
    assert " -> " in shell("compact", queue)
    child = children.new()
    child.do(open_subscriber, queue, "a")
    assert shell("compact", queue, code=1) == ""


def test_export_and_import(shell: Shell, queue: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shell("export", queue)
    done = shell.json("export", queue, "--output", "file.jsonl")
    text = pathlib.Path("file.jsonl").read_text()
    assert text == lines
    assert done == {"file": "file.jsonl", "messages": 12, "bytes": len(text.encode())}
    assert "already" in shell("export", queue, "--output", "file.jsonl", code=2)
    shell("export", queue, "--json", code=2)
    assert sorted(os.listdir()) == ["file.jsonl", "queue"]
    assert shell("import", "new", "file.jsonl") == "new: 12 messages\n"
    assert picture(pathlib.Path("new")) == picture(queue)
    assert "already" in shell("import", "new", "file.jsonl", code=2)
    assert shell.json("import", "others", "file.jsonl", "-s", "x", "-s", "y")["messages"] == 12
    assert set(picture(pathlib.Path("others"))["subscribers"]) == {"x", "y"}
    assert shell.json("import", "others", "file.jsonl", "--append")["messages"] == 12
    stdin = io.TextIOWrapper(io.BytesIO(text.encode()))
    monkeypatch.setattr("sys.stdin", stdin)
    assert shell("import", "others", "--append") == "others: 0 messages (12 known)\n"
    shell("import", "others", "file.jsonl", "--append", "-s", "x", code=2)
    shell("import", "fresh", "file.jsonl", "more", code=2)
    shell("import", "fresh", "missing.jsonl", code=2)
    pathlib.Path("cut.jsonl").write_text("".join(text.splitlines(keepends=True)[:-1]))
    assert "cut off" in shell("import", "fresh", "cut.jsonl", code=2)
    assert not pathlib.Path("fresh").exists()


def test_an_export_that_fails_leaves_no_file(shell: Shell, queue: pathlib.Path) -> None:
    damaged = pathlib.Path(shutil.copytree(queue, "damaged"))
    data = (damaged / "data.mdb").read_bytes()
    (damaged / "data.mdb").write_bytes(data.replace(b"expiring", b"expired!"))
    assert "--repair" in shell("export", damaged, "--output", "file.jsonl", code=2)
    assert sorted(os.listdir()) == ["damaged", "queue"]


def test_repair(shell: Shell, queue: pathlib.Path) -> None:
    assert shell("check", queue) == "all is well\n"
    saved = shell.json("check", queue, "--repair", "saved")
    assert (saved["complete"], saved["messages"], saved["lost"]) == (True, 12, 0)
    damaged = pathlib.Path(shutil.copytree(queue, "damaged"))
    data = (damaged / "data.mdb").read_bytes()
    (damaged / "data.mdb").write_bytes(data.replace(b"expiring", b"expired!"))
    assert "checksum" in shell("check", damaged, code=1)
    text = shell("check", damaged, "--repair", "mended", code=1)
    assert "saved 11 messages, 2 dead letters, 3 subscribers; lost 1 messages (ids 20)" in text
    assert shell("check", "mended") == "all is well\n"
    (damaged / "data.mdb").write_bytes(data[: 20 * 4096])
    assert shell("check", damaged, code=1)
    shell("check", damaged, "--repair", "half", code=1)
    assert shell("check", "half") == "all is well\n"
    assert "already" in shell("check", damaged, "--repair", "half", code=2)


def test_doctor(shell: Shell, queue: pathlib.Path, tmp_path: pathlib.Path) -> None:
    text = shell("doctor", queue, code=1)
    assert "2 messages are dead letters" in text
    assert "-> Look at them" in text
    symptoms = shell.json("doctor", queue, code=1)["symptoms"]
    assert {"queue", "topic", "finding", "advice"} == set(symptoms[0])
    machine = shell.json("doctor", code=cli.run(["doctor"]))["symptoms"]
    assert {symptom["queue"] for symptom in machine} == {None}
    (tmp_path / "persipubsub.json").write_text('{"root": ".", "queues": {"queue": {}, "other": {}}}')
    symptoms = shell.json("doctor", code=1)["symptoms"]
    assert {symptom["queue"] for symptom in symptoms} == {"queue", "other"}
    assert [symptom["topic"] for symptom in symptoms].count("versions") == 1
    assert "other: queue" in shell("doctor", code=1)


def test_bench(shell: Shell) -> None:
    found = shell.json("bench", "--seconds", 0.01, "--size", 10)
    assert len(found["measurements"]) == 9
    assert found["fsync"] > 0
    assert "messages/s" in shell("bench", "--seconds", 0.01)
    assert os.listdir() == []
    shell("bench", "missing", code=2)
