"""What ``persipubsub relay`` shows: one line on a terminal, a log of JSON lines elsewhere, and figures as JSON."""

import contextlib
import datetime
import json
import logging
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.markup import escape

from persipubsub import units
from persipubsub.cli import output
from persipubsub.relay import Relay, RelayState, RelayStatus

#: Seconds between two looks of the line on a terminal, and between two lines of JSON.
_TICK: Final = 0.25
_LINE_EVERY: Final = 5.0
_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


class JsonLines(logging.Formatter):
    """Formats a record and its fields as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
        line = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "text": record.getMessage(),
            **fields,
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


@contextlib.contextmanager
def reporting(relay: Relay, *, as_json: bool) -> Iterator[None]:
    """Show what the relay does, in a thread of its own, and what it did in the end."""
    console = output.console(stderr=True)
    over = threading.Event()
    live = console.is_terminal
    thread = threading.Thread(target=_report, args=(relay, over, console if live else None, as_json), daemon=True)
    with _line_of(console) if live else _logging():
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
    if as_json:
        output.print_json(figures(relay.status()))
    elif live:
        console.print(escape(describe(relay.status(), None)), soft_wrap=True)


def _report(relay: Relay, over: threading.Event, console: Console | None, as_json: bool) -> None:
    rate = _Rate()
    line = 0.0
    while not over.wait(_TICK):
        status = relay.status()
        if console is not None:
            # Back to the start of the line, and clear what is left of it.
            text = describe(status, rate(status))[: max(1, console.width - 1)]
            console.file.write(f"\r\x1b[2K{text}")
            console.file.flush()
        if as_json and time.monotonic() >= line:
            line = time.monotonic() + _LINE_EVERY
            output.print_json(figures(status))


@contextlib.contextmanager
def _line_of(console: Console) -> Iterator[None]:
    try:
        yield
    finally:
        console.file.write("\r\x1b[2K")
        console.file.flush()


@contextlib.contextmanager
def _logging() -> Iterator[None]:
    """Log as lines of JSON."""
    logger = logging.getLogger("persipubsub")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


class _Rate:
    """Messages per second between two looks."""

    def __init__(self) -> None:
        self._seen: tuple[float, int] | None = None
        self._rate = 0.0

    def __call__(self, status: RelayStatus) -> float:
        now = time.monotonic()
        if self._seen is not None and now > self._seen[0]:
            fresh = (status.forwarded - self._seen[1]) / (now - self._seen[0])
            self._rate = 0.7 * self._rate + 0.3 * fresh
        self._seen = (now, status.forwarded)
        return self._rate


def figures(status: RelayStatus) -> dict[str, Any]:
    """Return the figures for JSON; times are ISO 8601."""
    found: dict[str, Any] = msgspec.to_builtins(status)
    for name in ("since", "last_forwarded", "last_error"):
        moment = output.moment(found.pop(f"{name}_ns"))
        found["last_error_at" if name == "last_error" else name] = moment
    return found


def describe(status: RelayStatus, rate: float | None) -> str:
    """Return the figures as one line."""
    parts = [f"{status.name or 'relay'}: {status.state.value}", f"{status.forwarded:,} forwarded"]
    if rate is not None:
        parts.append(f"{rate:,.0f}/s")
    parts.append(units.size(status.forwarded_bytes))
    if status.lag is not None:
        parts.append(f"{status.lag:,} to go")
    if status.rejected:
        parts.append(f"{status.rejected:,} rejected")
    if status.state in (RelayState.RETRYING, RelayState.FULL) and status.last_error is not None:
        again = "" if status.retry_in is None else f" (again in {status.retry_in:.0f} s)"
        parts.append(f"{' '.join(status.last_error.split())}{again}")
    return ", ".join(parts)
