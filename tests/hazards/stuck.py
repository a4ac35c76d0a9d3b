"""A writer that is stopped at any point where it keeps others out: they raise in time, and all goes on afterwards."""

import os
import pathlib
import signal
import time
from collections.abc import Callable
from typing import Any

from persipubsub import Durability, Environment, LeaseLostError, QueueBusyError, SubscriberSettings
from tests.crash import failpoints
from tests.hazards.trials import Trial
from tests.process import support
from tests.process.support import Here

LOCK_TIMEOUT = 0.3
#: Seconds by which an error may be later than ``lock_timeout``, and an interrupt later than the signal.
LATE = 0.5
#: Lets nobody run out of patience: then it takes an interrupt.
_LONG = 60.0

#: Where the writer is stopped; the last one is a commit that carries what other processes have posted.
WHERE = (
    "engine.local.writelock:WriteLock._is_alone",
    "engine.local.store:Store.begin_writing",
    "engine.local.work:Work.finish",
    "engine.local.sharing:Sharing.asked",
)

Note = tuple[str, str, float, float, str]
"""Who, what for (the message), from when to when, and what came of it."""


def stop_at(where: str, nth: int) -> None:
    """Stop this process when it comes by a place for the nth time, and something came of that."""
    left = nth

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            result = original(*arguments, **options)
            left -= bool(result)
            if not left:
                left -= 1
                os.kill(os.getpid(), signal.SIGSTOP)
            return result

        return wrapped

    failpoints.patch(where, wrap)


def write_on(here: Here, path: pathlib.Path, name: str, where: str, nth: int) -> list[Note]:
    """Publish, or take, until it is over; ``where`` (if it is not empty) this process is stopped."""
    notes: list[Note] = []
    # Where the run was started in the background of a shell, interrupts are ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with Environment(path) as env:
        pub, sub = env.new_publisher(), env.new_subscriber("sub")
        env.open_control().statistics()
        here.tell("ready")
        if where:
            stop_at(where, nth)
        number, message = 0, None
        while not path.with_name("over").exists():
            number += 1
            text = f"{name} {number}"
            began, said = time.monotonic(), ""
            try:
                if name.startswith("taker"):
                    message = message or sub.get(timeout=0.05)
                    if message is not None:
                        text = message.data.decode()
                        message.ack()
                        message = None
                else:
                    pub.send(text.encode())
            except QueueBusyError as error:
                said = str(error)
            except KeyboardInterrupt:
                said = "interrupted"
            except LeaseLostError:
                message = None  # it was settled when the acknowledgement was interrupted
            notes.append((name, text, began, time.monotonic(), said))
            if said:
                with path.with_name(f"said by {name}").open("a") as words:
                    words.write(".")
            elif path.with_name("goes on").exists():
                path.with_name(f"{name} goes on").touch()
            time.sleep(0.0005)  # the others shall have their turn
        here.tell(notes)
        # What nobody has failed to give back is seen while this process lives.
        support.wait_until(path.with_name("seen").exists, "what was found is judged")
    return notes


def await_words(trial: Trial, names: list[str], words: int) -> None:
    """Wait until each of them has met so many errors or interrupts; that nobody has is found by the judgement."""

    def said_by(name: str) -> int:
        path = trial.path.with_name(f"said by {name}")
        return path.stat().st_size if path.exists() else 0

    support.eventually(lambda: all(said_by(name) >= words for name in names))


def stuck(trial: Trial) -> None:
    """Stop a writer somewhere, and judge the others."""
    source = trial.source
    where = WHERE[trial.number % len(WHERE)]
    durability = Durability.FULL if "sharing" in where or source.random() < 0.5 else Durability.PROCESS
    interrupted = source.random() < 0.4
    timeout = _LONG if interrupted else LOCK_TIMEOUT
    with Environment(trial.path) as env:
        env.new_control({"sub": SubscriberSettings(max_deliveries=None)}, durability=durability, lock_timeout=timeout)
    names = ["publisher 1", "publisher 2", "taker", "stopped"]
    crowd = {name: trial.child() for name in names}
    for name, child in crowd.items():
        stop = name == "stopped"
        child.start(write_on, trial.path, name, where if stop else "", source.randrange(1, 30))
        trial.expect(child.told() == "ready", f"{name} did not begin")
    stopped = crowd["stopped"]
    support.wait_until(lambda: support.state_of(stopped.pid) == "T", "it is stopped")
    since = signalled = time.monotonic()
    if interrupted:
        time.sleep(source.random() * LOCK_TIMEOUT)  # somewhere in the midst of their wait
        signalled = time.monotonic()
        for name in names[:-1]:
            crowd[name].signal(signal.SIGINT)
    # On a busy machine somebody may not even have begun to wait: the writer is stopped until all have said something,
    # and those who are not interrupted once more.
    await_words(trial, names[:-1], 1 if interrupted else 2)
    until = time.monotonic()
    stopped.signal(signal.SIGCONT)
    trial.path.with_name("goes on").touch()
    for name in names:
        went_on = support.eventually(trial.path.with_name(f"{name} goes on").exists)
        trial.expect(went_on, f"{name} did not go on when the writer did")
    trial.path.with_name("over").touch()
    notes = {name: child.told() for name, child in crowd.items()}
    for name in names[:-1]:
        during = [note for note in notes[name] if note[2] < until and note[3] > since]
        errors = [note for note in during if note[4]]
        trial.expect(errors, f"{name}: nothing was said while the writer was stopped")
        for _, _, began, ended, said in errors:  # once it goes on, it may be another one who writes
            late = ended - (signalled if interrupted else began + LOCK_TIMEOUT)
            trial.note("latest s", late)
            trial.expect_soon(late, LATE, f"{name}: {said!r} came {late:.2f} s late")
            trial.expect(
                said == "interrupted" if interrupted else ended > until or f"process {stopped.pid} " in said,
                f"{name}: {said!r}",
            )
    judge(trial, [note for name in names for note in notes[name]], interrupted=interrupted)
    trial.path.with_name("seen").touch()
    for child in crowd.values():
        child.returned()
    trial.tries += 1
    trial.add(f"stopped in {where.rpartition('.')[2]}", 1)
    trial.check()


def judge(trial: Trial, notes: list[Note], *, interrupted: bool) -> None:
    """Compare what was sent with what came; an interrupted operation may have happened or not."""
    # What an interrupted ``get`` took belongs to a caller who does not know of it.
    most = int(interrupted)
    sent = {text for name, text, *_, said in notes if not name.startswith("taker") and not said}
    refused = {
        text for name, text, *_, said in notes if not name.startswith("taker") and said and said != "interrupted"
    }
    doubtful = {text for *_, text, _, _, said in notes if said == "interrupted"}
    taken = {text for name, text, *_, said in notes if name.startswith("taker") and not said}
    with Environment(trial.path) as env:
        rest = [message.data.decode() for message in env.new_subscriber("sub").messages(timeout=0)]
        (figures,) = env.open_control().statistics().subscribers
    trial.expect(figures.leased <= most, f"{figures.leased} messages are held by nobody who knows of it")
    came = taken | set(rest)
    trial.expect(len(sent - came - doubtful) <= figures.leased, f"lost: {sorted(sent - came)[:5]}")
    trial.expect(not refused & came, f"refused, and stored: {sorted(refused & came)[:5]}")
    trial.add("sent", len(sent))
