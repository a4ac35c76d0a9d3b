"""What the dashboard answers, and to whom."""

import base64
import hashlib
import http.client
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from persipubsub import Environment
from persipubsub.cli import app as cli
from persipubsub.errors import SettingsError
from persipubsub.watch.dashboard.security import Access
from persipubsub.watch.dashboard.server import DashboardServer
from persipubsub.watch.watching import Watch
from tests.process.support import BOUND, wait_until
from tests.watch.serving import Answer, ask, serving
from tests.watch.support import fill

REPOSITORY = pathlib.Path(__file__).parents[2]
TOKEN = "a token that nobody guesses"
DEAD = "/api/queues/orders/dead-letters"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    fill(tmp_path / "orders")
    return tmp_path


@pytest.fixture
def server(root: Path) -> Iterator[DashboardServer]:
    """Return a dashboard as it is by default."""
    with serving(root) as server:
        yield server


@pytest.fixture
def changing(root: Path) -> Iterator[DashboardServer]:
    """Return a dashboard that may change something."""
    with serving(root, allow_changes=True) as server:
        yield server


@pytest.fixture
def guarded(root: Path) -> Iterator[DashboardServer]:
    """Return a dashboard that others can connect to."""
    with serving(root, host="0.0.0.0", token=TOKEN, allow_changes=True, names=["queues.example.org"]) as server:
        yield server


def dead(root: Path) -> list[int]:
    with Environment(root / "orders") as environment:
        return [letter.id for letter in environment.open_control().dead_letters("worker")]


# -- what there is to see ---------------------------------------------------------------------------


def test_the_page_needs_nothing_else(server: DashboardServer) -> None:
    answer = ask(server, "/")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    # The only URLs are that of the namespace of SVG, which nobody fetches, and our own.
    assert set(re.findall(r"https?://[^\s\"'`]+", answer.text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<(link|img|iframe)|@import|url\(|innerHTML|eval\(", answer.text)
    assert "{{" not in answer.text


def test_messages_and_dead_letters(server: DashboardServer) -> None:
    messages = ask(server, "/api/queues/orders/messages").json()
    assert [message["id"] for message in messages] == ["5", "4", "3", "2", "1"]
    assert messages[4]["preview"] == '{\n  "order": 1\n}'
    assert messages[4]["headers"] == {"trace": "abc"}
    assert ask(server, "/api/queues/orders/messages?view=hex").json()[0]["preview"].startswith("00000000  6c 61")
    letters = ask(server, DEAD).json()
    assert [(one["id"], one["subscriber"], one["reason"]) for one in letters] == [
        ("1", "worker", "card declined"),
        ("2", "worker", "<b>bold</b>"),
    ]


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/api/queues/nothing/messages", 404, "nothing"),
        ("/api/queues/orders/messages?view=pink", 400, "pink"),
        ("/nowhere", 404, "Not Found"),
        ("/login", 405, "Method Not Allowed"),
    ],
)
def test_wrong_questions(server: DashboardServer, path: str, status: int, text: str) -> None:
    answer = ask(server, path)
    assert answer.status == status
    assert text in answer.json()["error"]


def test_the_stream_of_events(server: DashboardServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=BOUND)
    connection.request("GET", "/events")
    response = connection.getresponse()
    assert response.headers["content-type"].startswith("text/event-stream")
    names: list[str] = []
    while names.count("sample") < 2:
        line = response.readline().decode()
        if line.startswith("event: "):
            names.append(line.removeprefix("event: ").strip())
    assert names[0] == "state"
    wait_until(lambda: server.hub.listeners == 1, "it listens")
    response.close()
    connection.close()
    wait_until(lambda: server.hub.listeners == 0, "it is gone")


def test_streams_do_not_hold_up_the_stop(root: Path) -> None:
    with serving(root) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=BOUND)
        connection.request("GET", "/events")
        response = connection.getresponse()
        first = response.readline()
        server.stop()
        # The stream comes to its proper end.
        assert (first + response.read()).endswith(b"\n\n")
        connection.close()


# -- headers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/", {}),
        ("/events", {"method": "HEAD"}),
        ("/api/session", {}),
        ("/nowhere", {}),
        (DEAD, {"method": "POST"}),
        ("/", {"host": "evil.example"}),
    ],
)
def test_every_answer_binds_the_browser(server: DashboardServer, path: str, options: dict[str, Any]) -> None:
    headers = ask(server, path, **options).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "base-uri 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "server" not in headers
    assert "access-control-allow-origin" not in headers


def test_the_page_may_run_its_own_script_alone(server: DashboardServer) -> None:
    answer = ask(server, "/")
    (script,) = re.findall(r"<script>(.*?)</script>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST"])
def test_own_names(server: DashboardServer, host: str) -> None:
    assert ask(server, "/", host=f"{host}:{server.port}").status == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "10.0.0.1", "", "a b"])
def test_other_names_are_refused(server: DashboardServer, host: str) -> None:
    """A page of evil.example whose name suddenly means 127.0.0.1 learns nothing."""
    for path in ("/", "/events", "/api/session"):
        assert ask(server, path, host=host and f"{host}:{server.port}").status == 400


def test_further_names(guarded: DashboardServer) -> None:
    bearer = f"Bearer {TOKEN}"
    for host in ("queues.example.org", socket.gethostname().lower(), f"127.0.0.1:{guarded.port}"):
        assert ask(guarded, "/api/session", host=host, authorization=bearer).status == 200
    assert ask(guarded, "/api/session", host="evil.example", authorization=bearer).status == 400


# -- who may look -----------------------------------------------------------------------------------


def test_on_this_machine_nobody_is_asked(server: DashboardServer) -> None:
    assert server.url == server.url_to_open == f"http://127.0.0.1:{server.port}/"
    assert ask(server, "/api/session").json()["interval"] == 0.1


def test_others_need_a_token(guarded: DashboardServer) -> None:
    for path in ("/events", "/api/session", "/api/queues/orders/messages", DEAD):
        assert ask(guarded, path).status == 401
        assert ask(guarded, path, authorization="Bearer wrong").status == 401
        assert ask(guarded, path, authorization=f"Basic {TOKEN}").status == 401
        assert ask(guarded, path, cookie=f"persipubsub-{guarded.port}={TOKEN}").status == 401
    assert ask(guarded, DEAD, "POST").status == 401
    page = ask(guarded, "/")
    assert page.status == 401
    assert "orders" not in page.text
    assert "<form" in page.text
    assert "script-src 'none'" in page.headers["content-security-policy"]
    assert ask(guarded, "/api/session", authorization=f"bearer {TOKEN}").status == 200


def cookie_of(answer: Answer) -> str:
    assert (answer.status, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    return cookie.partition(";")[0]


def test_the_token_becomes_a_cookie(guarded: DashboardServer) -> None:
    by_link = cookie_of(ask(guarded, f"/?token={TOKEN.replace(' ', '+')}"))
    by_form = cookie_of(ask(guarded, "/login", "POST", f"token={TOKEN.replace(' ', '+')}"))
    assert by_link == by_form
    assert "<table" in ask(guarded, "/", cookie=by_link).text
    assert ask(guarded, "/api/session", cookie=f"other=1; {by_link}").status == 200
    for answer in (
        ask(guarded, "/?token=wrong"),
        ask(guarded, "/login", "POST", "token=wrong%ff"),
        ask(guarded, "/login", "POST"),
    ):
        assert answer.status == 401
        assert "set-cookie" not in answer.headers


def test_a_token_is_made_where_one_is_needed(root: Path) -> None:
    with serving(root, host="0.0.0.0") as server:
        token = server.made_token
        assert token is not None
        assert len(token) > 30
        assert server.url_to_open.endswith(f"?token={token}")
        assert ask(server, "/api/session").status == 401
        assert ask(server, "/api/session", authorization=f"Bearer {token}").status == 200


def test_a_token_that_can_be_guessed_is_refused() -> None:
    with pytest.raises(SettingsError, match="16"):
        Access("short", False, 1)
    watch = Watch([])
    with pytest.raises(SettingsError, match="5 characters"):
        DashboardServer(watch, token="short")


# -- who may change ---------------------------------------------------------------------------------


def change(server: DashboardServer, body: Any = None, path: str = DEAD, **headers: str) -> Answer:
    body = {"action": "discard", "subscriber": "worker", "ids": ["1"]} if body is None else body
    return ask(server, path, "POST", body, content_type="application/json", **headers)


def token_of(server: DashboardServer) -> str:
    token = ask(server, "/api/session").json()["change_token"]
    assert isinstance(token, str)
    return token


def test_nothing_is_changed_by_default(server: DashboardServer, root: Path) -> None:
    assert ask(server, "/api/session").json()["change_token"] is None
    answer = change(server, x_persipubsub_token="")
    assert answer.status == 403
    assert "--allow-changes" in answer.json()["error"]
    assert dead(root) == [1, 2]


def test_changes_of_our_own_page(changing: DashboardServer, root: Path) -> None:
    token = token_of(changing)
    origin = f"http://127.0.0.1:{changing.port}"
    answer = change(changing, x_persipubsub_token=token, origin=origin, sec_fetch_site="same-origin")
    assert (answer.status, answer.json()) == (200, {"number": 1})
    assert dead(root) == [2]
    everything = {"action": "requeue", "subscriber": "worker", "ids": None}
    assert change(changing, everything, x_persipubsub_token=token).json() == {"number": 1}
    assert dead(root) == []


def test_foreign_pages_change_nothing(changing: DashboardServer, root: Path) -> None:
    token = token_of(changing)
    for headers in (
        {},
        {"x_persipubsub_token": "wrong"},
        {"x_persipubsub_token": token, "origin": "http://evil.example"},
        {"x_persipubsub_token": token, "origin": "null"},
        {"x_persipubsub_token": token, "origin": f"http://127.0.0.1:{changing.port + 1}"},
        {"x_persipubsub_token": token, "sec_fetch_site": "cross-site"},
        {"x_persipubsub_token": token, "sec_fetch_site": "same-site"},
    ):
        answer = change(changing, **headers)
        assert answer.status == 403
    assert ask(changing, DEAD, "DELETE", x_persipubsub_token=token).status == 405
    assert dead(root) == [1, 2]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("", 400),
        ("[]", 400),
        ({"action": "explode", "subscriber": "worker", "ids": None}, 400),
        ({"action": "discard", "subscriber": "worker"}, 400),
        ({"action": "discard", "subscriber": "worker", "ids": ["one"]}, 400),
        ({"action": "discard", "subscriber": "nobody", "ids": None}, 404),
        ("x" * (1 << 20) + "x", 413),
    ],
)
def test_changes_that_make_no_sense(changing: DashboardServer, root: Path, body: Any, status: int) -> None:
    answer = change(changing, body, x_persipubsub_token=token_of(changing))
    assert answer.status == status
    assert answer.json()["error"]
    assert dead(root) == [1, 2]


def test_ids_beyond_what_the_queue_counts(changing: DashboardServer, root: Path) -> None:
    body = {"action": "discard", "subscriber": "worker", "ids": [str(1 << 70)]}
    answer = change(changing, body, x_persipubsub_token=token_of(changing))
    assert answer.status in (200, 409)
    assert dead(root) == [1, 2]


# -- the command ------------------------------------------------------------------------------------


def test_the_command_serves_until_it_is_stopped(root: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "persipubsub.cli", "dashboard", str(root), "--port", "0"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        line = process.stdout.readline()
        port = int(re.findall(r"http://127\.0\.0\.1:(\d+)/ ", line)[0])
        stream = http.client.HTTPConnection("127.0.0.1", port, timeout=BOUND)
        stream.request("GET", "/events")
        assert stream.getresponse().status == 200
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=BOUND)
        stream.close()
    assert (process.returncode, err) == (130, "")
    assert time.monotonic() - start < BOUND


def test_a_port_that_is_taken_is_one_line(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert cli.run(["dashboard", str(root), "--port", port]) == 2
    err = capfd.readouterr().err
    assert port in err
    assert "--port" in err
    assert err.count("\n") == 1
