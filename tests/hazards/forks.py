"""Forks in all states of a parent and with all ends of a child: nobody uses what belongs to another process."""

import concurrent.futures
import contextlib
import http.client
import itertools
import json
import multiprocessing
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from persipubsub import Environment, Publisher, Subscriber, SubscriberSettings
from persipubsub.engine import forking
from persipubsub.engine.local import opening
from tests.hazards.trials import Trial, store_of
from tests.process.support import BOUND

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent.parent

STATES = ("idle", "used", "mid-receive", "in a view", "in a loop", "from a thread", "beside busy threads", "twice")
ENDS = ("_exit", "exit", "exception", "close")
METHODS = ("fork", "forkserver", "spawn")
#: Rounds of a trial of the long run.
ROUNDS = 2 * len(ENDS)


def forget_the_pid() -> None:
    """Plant a bug: let a forked child take itself for its parent."""
    forking._callbacks.clear()
    forking.on_fork_child(lambda: setattr(forking, "generation", 0))
    forking.on_fork_child(opening._after_fork_in_parent)


def own_environment(env: Environment) -> bool:
    """Tell whether the places for readers that this process uses are noted for it, not for its parent."""
    store = store_of(env)
    with store.reader.bare():
        return any(line.split()[:1] == [str(os.getpid())] for line in store.env.readers().splitlines())


def use(env: Environment, pub: Publisher, sub: Subscriber[bytes]) -> str:
    """Use what was inherited; return what went wrong."""
    if not own_environment(env):
        return "a child silently uses the environment of its parent"
    pub.send(b"of the child")
    deadline = time.monotonic() + BOUND
    while time.monotonic() < deadline:
        with sub.receive(timeout=1) as data:
            if data is not None:
                return ""
    return "nothing came to the child"


def use_over(pipe: Any, env: Environment, pub: Publisher, sub: Subscriber[bytes]) -> None:
    """Do so in a process of multiprocessing."""
    pipe.send(use(env, pub, sub))


# -- one parent -----------------------------------------------------------------------------------------


class Parent:
    """Forks, and looks whether anything of its own was disturbed."""

    def __init__(self, path: pathlib.Path) -> None:
        """Open the queue; nothing is used yet."""
        self.env = Environment(path)
        self.pub, self.sub = self.env.new_publisher(), self.env.new_subscriber("sub")
        self.findings: list[str] = []

    def fork(self, end: str, *, twice: bool = False) -> None:
        """Fork; the child uses what it inherited, and comes to its end."""
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                said = use(self.env, self.pub, self.sub)
            except Exception as error:  # noqa: BLE001 - the parent judges it
                said = f"{type(error).__name__}: {error}"
            if twice and not said:
                self.findings = []
                self.fork("_exit")
                said = "; ".join(self.findings)
            os.write(write, said.encode() or b"well")
            os.close(write)
            if end == "close":
                self.env.close()
            if end in ("_exit", "close"):
                os._exit(0)
            os.close(2)  # a traceback is no news
            raise SystemExit(0) if end == "exit" else ValueError("of the child")
        os.close(write)
        with open(read, "rb") as pipe:
            said = pipe.read().decode()
        os.waitpid(pid, 0)
        if said != "well":
            self.findings.append(said or "the child died")

    def run(self, state: str, end: str) -> None:
        """Fork in one of the states."""
        with contextlib.ExitStack() as stack:
            if state != "idle":
                self.pub.send(b"held")
                # With one message the parent holds it in each of its ways.
                if state == "in a view":
                    view = stack.enter_context(self.sub.receive_view(timeout=BOUND))
                elif state == "in a loop":
                    loop = stack.enter_context(self.sub.messages(timeout=BOUND))
                    next(loop)
                else:
                    stack.enter_context(self.sub.receive(timeout=BOUND))
                    if state == "used":
                        stack.pop_all().close()
            if state == "from a thread":
                thread = threading.Thread(target=self.fork, args=("_exit",))
                thread.start()
                thread.join()
            elif state == "beside busy threads":
                over = threading.Event()
                with concurrent.futures.ThreadPoolExecutor(2) as pool:
                    busy = [pool.submit(self._send_on, over) for _ in range(2)]
                    try:
                        self.fork("_exit")
                    finally:
                        over.set()
                    for each in busy:
                        each.result()
            elif state in METHODS:
                self._multiprocess(state)
            else:
                self.fork(end, twice=state == "twice")
            if state == "in a view" and bytes(view or b"") != b"held":
                self.findings.append("the view of the parent has changed")
        for _ in self.sub.messages(timeout=0):
            pass
        if not own_environment(self.env):
            self.findings.append("the parent has lost its place among the readers")
        (figures,) = self.env.open_control().statistics().subscribers
        if figures.lag:
            self.findings.append(f"{figures.lag} messages are left in the hands of nobody")
        self.findings += [f"check: {found}" for found in self.env.open_control().check()]

    def _send_on(self, over: threading.Event) -> None:
        while not over.is_set():
            self.pub.send(b"busy")

    def _multiprocess(self, method: str) -> None:
        context: Any = multiprocessing.get_context(method)
        pipe, theirs = context.Pipe()
        process = context.Process(target=use_over, args=(theirs, self.env, self.pub, self.sub))
        process.start()
        said = pipe.recv() if pipe.poll(BOUND) else "the process hangs"
        process.join(BOUND)
        if said or process.exitcode:
            self.findings.append(f"{method}: {said}, ended with {process.exitcode}")


def main() -> None:
    """Fork once for each end and state that are given; print what was found."""
    path, ends, bug, *states = sys.argv[1:]
    multiprocessing.set_forkserver_preload(["tests.hazards.forks"])
    if bug:
        forget_the_pid()
    findings = []
    for end, state in itertools.product(ends.split(), states):
        parent = Parent(pathlib.Path(path))
        parent.run(state, end)
        findings += [f"{state}, {end}: {finding}" for finding in parent.findings]
        parent.env.close()
    print(json.dumps(findings))


def forked(trial: Trial, rounds: int = 1) -> None:
    """Fork in every state, the child coming to one of its ends in each round.

    The rounds share an interpreter, for its start takes longer than they do; each state has a new Environment.
    """
    with Environment(trial.path) as env:
        env.new_control({"sub": SubscriberSettings(max_deliveries=None)}, durability=trial.durability)
    ends = [ENDS[(trial.number + number) % len(ENDS)] for number in range(rounds)]
    states = [*STATES, *METHODS]
    trial.source.shuffle(states)
    command = [sys.executable, "-m", "tests.hazards.forks", str(trial.path), " ".join(ends)]
    command += ["bug" if trial.bugs else "", *states]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=2 * BOUND)
    if done.returncode:
        trial.findings.append(done.stderr[-500:])
    else:
        trial.findings += json.loads(done.stdout)
    trial.tries += len(states) * len(ends)
    trial.check()


# -- gunicorn -------------------------------------------------------------------------------------------

PATH = "HAZARDS_PATH"


def make_application() -> Callable[..., Any]:
    """Open the queue before the workers are forked; each request uses it."""
    env = Environment(os.environ[PATH])
    pub, sub = env.new_publisher(), env.new_subscriber("sub")
    pub.send(b"of the master")
    if os.environ.get(PATH + "_BUG"):
        forget_the_pid()

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        said = use(env, pub, sub)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{os.getpid()} {said}".encode()]

    return application


def preloaded(trial: Trial) -> None:
    """Let gunicorn open the queue before it forks its workers."""
    with Environment(trial.path) as env:
        env.new_control({"sub": SubscriberSettings(max_deliveries=None)}, durability=trial.durability)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        os.set_inheritable(listener.fileno(), True)
        command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--max-requests", "5"]
        command += ["--bind", f"fd://{listener.fileno()}", "tests.hazards.forks:make_application()"]
        variables = {**os.environ, PATH: str(trial.path), PATH + "_BUG": "bug" if trial.bugs else ""}
        master = subprocess.Popen(
            command, cwd=REPOSITORY, env=variables, pass_fds=[listener.fileno()], stderr=subprocess.DEVNULL
        )
        workers = set()
        try:
            for _ in range(12):
                connection = http.client.HTTPConnection("127.0.0.1", listener.getsockname()[1], timeout=BOUND)
                connection.request("GET", "/")
                worker, _, said = connection.getresponse().read().decode().partition(" ")
                connection.close()
                workers.add(worker)
                trial.expect(not said, f"gunicorn: {said}")
                trial.tries += 1
        finally:
            master.send_signal(signal.SIGTERM)
            master.wait(BOUND)
    trial.expect(len(workers) > 1, "there was one worker only")
    trial.add("workers of gunicorn", len(workers))
    trial.check()


if __name__ == "__main__":
    main()
