"""What holds for every command: help that teaches, JSON, one-line errors, a queue by any of its names, completion."""

import itertools
import json
import os
import pathlib
import pty
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

import pytest
import typer.main

from persipubsub import Environment
from persipubsub.cli import app as cli

ROOT: Any = typer.main.get_command(cli.app)


def walk(command: Any, name: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Give every command that does something, with its full name."""
    children = getattr(command, "commands", None)
    if children is None:
        yield name, command
    else:
        for child, inner in children.items():
            yield from walk(inner, (*name, child))


COMMANDS = dict(walk(ROOT))
#: These are not about one deployed queue.
NO_QUEUE = {("deploy",), ("demo",), ("bench",)}
#: These run until somebody stops them, and have tests of their own for what they show.
LASTING = {("metrics",), ("top",), ("dashboard",), ("relay",)}
#: How each command that takes a queue is called, but for the queue: options, and arguments after the queue.
CALLS: dict[tuple[str, ...], list[str]] = {
    ("status",): [],
    ("send",): ["message"],
    ("receive",): ["--subscriber", "a", "--all"],
    ("work",): ["os:getpid", "--subscriber", "nobody"],
    ("tail",): [],
    ("seek",): ["latest", "--subscriber", "a"],
    ("prune",): [],
    ("clear",): ["--subscriber", "a", "--yes"],
    ("delete",): ["--yes"],
    ("check",): [],
    ("doctor",): [],
    ("backup",): ["{fresh}"],
    ("restore",): [],
    ("compact",): [],
    ("export",): [],
    ("import",): ["--append", "{export}"],
    ("subscribers", "list"): [],
    ("subscribers", "add"): ["a"],
    ("subscribers", "remove"): ["gone"],
    ("subscribers", "pause"): ["a"],
    ("subscribers", "resume"): ["a"],
    ("dead-letters", "list"): ["--subscriber", "a"],
    ("dead-letters", "requeue"): ["--subscriber", "a", "--all"],
    ("dead-letters", "discard"): ["--subscriber", "a", "--all"],
}
every_command = pytest.mark.parametrize("name", COMMANDS, ids=" ".join)
with_a_queue = pytest.mark.parametrize("name", CALLS, ids=" ".join)


@pytest.fixture
def shop(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Return a folder with a deployment file and its only queue, deployed; one is in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PERSIPUBSUB_CONFIG", raising=False)
    (tmp_path / "persipubsub.json").write_text(
        '{"queues": {"orders": {"subscribers": ["a", "ab", "b"], "durability": "process"}}}'
    )
    assert cli.run(["deploy"]) == 0
    with Environment(tmp_path / "queues" / "orders") as env, (tmp_path / "export").open("wb") as stream:
        env.new_publisher().send(b"one")
        env.open_control().export(stream)
    return tmp_path


def option_names(command: Any) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


def test_the_calls_are_all_commands() -> None:
    assert set(CALLS) | NO_QUEUE == set(COMMANDS) - LASTING


# -- help -----------------------------------------------------------------------------------------


@every_command
def test_help_teaches(name: tuple[str, ...], capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*name, "--help"]) == 0
    text = capfd.readouterr().out
    (example,) = re.findall(r"^ *Example: persipubsub (.*)", text, re.MULTILINE)
    assert example.split()[: len(name)] == list(name)
    for parameter in COMMANDS[name].params:
        if parameter.name != "help":
            assert parameter.help, f"{name}: {parameter.name} says nothing"
            assert parameter.help.endswith("."), f"{name}: {parameter.name}: {parameter.help}"
    first = text.split("\n\n")[1].strip()
    assert first.endswith("."), first
    # The example is a command line that the command itself would take.
    words = [word for word in example.split()[len(name) :] if word.startswith("-")]
    assert set(words) <= option_names(COMMANDS[name]), example


def test_help_lists_all_commands(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--help"]) == 0
    text = capfd.readouterr().out
    for name in COMMANDS:
        assert f"\n  {name[0]} " in text


@every_command
def test_options_are_the_same_everywhere(name: tuple[str, ...]) -> None:
    options = option_names(COMMANDS[name])
    assert "--json" in options or name in LASTING
    assert {"--config", "--queue"} <= options or name in NO_QUEUE | {("relay",)}  # which is about two of them
    letters = {"-c": "--config", "-q": "--queue", "-s": "--subscriber"}
    for parameter in COMMANDS[name].params:
        for short in letters.keys() & set(parameter.opts):
            assert letters[short] in parameter.opts, f"{name}: {short} means something else"


# -- errors ---------------------------------------------------------------------------------------


@every_command
def test_wrong_use_is_one_line(name: tuple[str, ...], capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*name, "--no-such-option"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert re.fullmatch(r"persipubsub: error: .*\n", err)


@with_a_queue
def test_a_wrong_queue_is_one_line(
    name: tuple[str, ...], shop: pathlib.Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (shop / "broken.json").write_text('{"queues": {"orders": {"subscribers": 1}}}')
    before = sorted(os.listdir(shop))
    capfd.readouterr()
    # By path: missing, and a file; then an unknown name, and a broken file.
    for which in ("missing", "export", "--queue=missing", "--config=broken.json"):
        is_examined = name == ("doctor",) and which[0] != "-"  # what cannot be used is what a doctor tells of
        assert cli.run(call(name, shop, which)) == (1 if is_examined else 2)
        out, err = capfd.readouterr()
        assert re.fullmatch(r"" if is_examined else r"persipubsub: error: .*\n", err)
        assert is_examined or out == ""
        assert sorted(os.listdir(shop)) == before


def call(name: tuple[str, ...], shop: pathlib.Path, queue: str | None) -> list[str]:
    """Return the command line of a command, with a queue by its path, by an option, or not named at all."""
    numbers = itertools.count(len(os.listdir(shop)))
    rest = [word.format(fresh=f"fresh-{next(numbers)}", export=shop / "export") for word in CALLS[name]]
    by_path = queue is not None and not queue.startswith("-")
    named = [] if queue is None else [queue]
    if name == ("work",):
        return [*name, *rest, *(["--path"] if by_path else []), *named]
    if name == ("restore",):
        return [*name, "missing-backup", *named]
    return [*name, *(named if by_path else []), *rest, *([] if by_path else named)]


@with_a_queue
def test_any_name_of_the_queue(
    name: tuple[str, ...], shop: pathlib.Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its path, by its name in the file here, in a file that is given, and in the file of the variable."""

    def status(which: str | None) -> int:
        code = cli.run(call(name, shop, which))
        out, err = capfd.readouterr()
        assert "Say which queue" not in err, which
        assert "given" not in out
        return code

    # In the end it is the only queue of the file.
    ways: list[str | None] = ["queues/orders", "--queue=orders", f"--config={shop}/persipubsub.json", None]
    expected = {status(which) for which in ways}
    elsewhere = shop / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("PERSIPUBSUB_CONFIG", str(shop / "persipubsub.json"))
    expected.add(status("--queue=orders"))
    assert len(expected) <= 2, "the second time there may be nothing left to do"
    failing: dict[tuple[str, ...], set[int]] = {("work",): {2}, ("restore",): {2}, ("delete",): {0, 2}}
    assert expected <= failing.get(name, {0, 1})


def test_what_could_be_either_is_refused(shop: pathlib.Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A word alone is an argument only if it cannot be the queue; where it could be either, nothing is done."""
    (shop / "hello").mkdir()
    refused = {
        ("send", "hello"): "'hello' is a directory here: write ./hello",
        ("send", "helo", "one"): "queue",
        ("send", "./helo"): "queue",
        ("seek", "--subscriber", "a", "--back", "1", "latest"): "queue",
        ("subscribers", "add", "orders", "new"): "queue",
        ("dead-letters", "discard", "--subscriber", "a", "17", "18"): "queue",
    }
    for arguments, why in refused.items():
        capfd.readouterr()
        assert cli.run(arguments) == 2
        error = capfd.readouterr().err
        assert why in error
        assert "Usage" not in error
    with Environment(shop / "queues" / "orders") as env, env.open_control() as control:
        assert control.statistics().published == 1
        assert control.subscriber_ids == {"a", "ab", "b"}
    assert cli.run(["send", "helo"]) == 0
    (shop / "persipubsub.json").write_text('{"queues": {"orders": {}, "other": {}}}')
    capfd.readouterr()
    assert cli.run(["send", "helo"]) == 2
    assert "Say which queue with --queue" in capfd.readouterr().err


def test_what_changed_is_told(shop: pathlib.Path, capfd: pytest.CaptureFixture[str]) -> None:
    def told(*arguments: str, code: int = 0) -> list[Any]:
        capfd.readouterr()
        assert cli.run([*arguments, "--json"]) == code
        return [json.loads(line) for line in capfd.readouterr().out.splitlines()]

    assert told("send", "queues/orders", "two", "three") == [{"id": 2}, {"id": 3}]
    assert told("seek", "first", "-s", "a") == [{"subscriber": "a", "position": 1, "waiting": 3}]
    assert told("seek", "latest", "-s", "a") == [{"subscriber": "a", "position": 4, "waiting": 0}]
    assert told("seek", "--back", "1", "-s", "a") == [{"subscriber": "a", "position": 3, "waiting": 1}]
    assert told("subscribers", "add", "new") == [{"subscriber": "new", "added": True}]
    assert told("subscribers", "add", "new") == [{"subscriber": "new", "added": False}]
    assert told("subscribers", "pause", "new") == [{"subscriber": "new", "paused": True}]
    assert told("subscribers", "resume", "new") == [{"subscriber": "new", "paused": False}]
    assert told("subscribers", "remove", "new") == [{"subscriber": "new", "removed": True}]
    assert told("subscribers", "remove", "new", code=1) == [{"subscriber": "new", "removed": False}]
    assert told("send", "four", "--quiet", code=2) == []


@with_a_queue
def test_json_is_json(name: tuple[str, ...], shop: pathlib.Path, capfd: pytest.CaptureFixture[str]) -> None:
    if name in {("work",), ("restore",)}:  # these need more, and have tests of their own
        return
    extra = ["--output", "new.jsonl"] if name == ("export",) else []
    capfd.readouterr()
    assert cli.run([*call(name, shop, "--queue=orders"), *extra, "--json"]) in (0, 1)
    lines = capfd.readouterr().out.splitlines()
    assert lines or name == ("dead-letters", "list")
    for line in lines:
        assert isinstance(json.loads(line), dict)


# -- terminals ------------------------------------------------------------------------------------


def on_a_terminal(arguments: list[str], folder: pathlib.Path, stdout: BinaryIO | None = None, **variables: str) -> str:
    """Run a command on a terminal, but for what goes to ``stdout``, and return what it wrote there."""
    parent, child = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", **variables}
    process = subprocess.Popen(
        [sys.executable, "-m", "persipubsub.cli", *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=stdout or child,
        stderr=child,
    )
    os.close(child)
    shown = b""
    with process:
        while select.select([parent], [], [], 60)[0]:
            try:
                chunk = os.read(parent, 65536)
            except OSError:  # the other end is closed
                break
            if not chunk:
                break
            shown += chunk
    os.close(parent)
    return shown.decode()


def test_colours_and_progress_are_for_terminals(shop: pathlib.Path, capfd: pytest.CaptureFixture[str]) -> None:
    colour = re.compile(r"\x1b\[[0-9;]*3[0-9]")
    shown = on_a_terminal(["doctor", "--queue", "orders"], shop)
    assert colour.search(shown)
    assert "looking" in shown
    assert not colour.search(on_a_terminal(["doctor", "--queue", "orders"], shop, NO_COLOR="1"))
    # What a command prints on the terminal as it goes on is progress enough.
    sent = ["send", *(f"--file={shop / 'export'}" for _ in range(3)), "--queue", "orders"]
    assert "sending" in on_a_terminal([*sent, "--quiet"], shop)
    assert "sending" not in on_a_terminal(sent, shop)
    for arguments, word in (
        (["clear", "--yes", "--subscriber", "b"], "clearing"),
        (["deploy"], "deploying"),
        (["check"], "checking"),
        (["prune"], "pruning"),
    ):
        assert word in on_a_terminal(arguments, shop)
    capfd.readouterr()
    cli.run(["doctor", "--queue", "orders"])
    out, err = capfd.readouterr()
    assert "\x1b" not in out
    assert err == ""


def test_progress_never_mixes_with_what_a_script_reads(shop: pathlib.Path) -> None:
    """Where stderr is a terminal and stdout is a file, each has its own."""
    with (shop / "received").open("wb") as received:
        shown = on_a_terminal(["receive", "-s", "a", "--all"], shop, received)
    assert (shop / "received").read_bytes() == b"one\n"
    assert "receiving" in shown
    assert "one" not in shown
    with (shop / "ids").open("wb") as ids:
        shown = on_a_terminal(["send", "--queue", "orders", "two", "three"], shop, ids)
    assert (shop / "ids").read_bytes() == b"2\n3\n"
    assert "sending" in shown


# -- completion -----------------------------------------------------------------------------------


def test_completion(shop: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("_PERSIPUBSUB_COMPLETE", "complete_bash")

    def proposals(line: str) -> list[str]:
        """Return what bash would propose for the last word of a line."""
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.run([])
        assert ended.value.code == 0
        out, err = capfd.readouterr()
        assert err == ""
        return out.split()

    assert proposals("persipubsub ba") == ["backup"]
    assert proposals("persipubsub status --queue ") == ["orders"]
    assert proposals("persipubsub status --queue x") == []
    assert proposals("persipubsub receive --queue orders --subscriber a") == ["a", "ab"]
    assert proposals("persipubsub seek queues/orders -s ") == ["a", "ab", "b"]
    assert proposals("persipubsub clear -s ") == ["a", "ab", "b"]
    assert proposals("persipubsub receive --config missing.json --queue orders --subscriber ") == []
    (shop / "persipubsub.json").write_text("{")
    assert proposals("persipubsub status --queue ") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_installed(shell: str, tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Both options ask for the shell around; in a test there is none to be found, so it is named."""
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", "HOME": str(tmp_path)}
    for option in ("--show-completion", "--install-completion"):
        done = subprocess.run(
            [sys.executable, "-c", "from persipubsub.cli import main; main()", option, shell],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert shell in done.stdout.lower() or "_PERSIPUBSUB_COMPLETE" in done.stdout
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert any("_PERSIPUBSUB_COMPLETE" in text for text in written)
