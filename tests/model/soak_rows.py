"""The rows of the long run that compare the engine with something simpler."""

import logging
import pathlib
import random
import shutil
import tempfile
import time
import traceback

from tests.model import filters, twins
from tests.soak.protocol import Outcome, Row

_AT_ONCE = 50
_LAST_LINES = 60


def _twins(seed: int, seconds: float, folder: pathlib.Path) -> Outcome:
    """Explore until the time is over, or a difference is found."""
    logging.disable(logging.CRITICAL)
    deadline = time.monotonic() + seconds
    examples = steps = deliveries = 0
    findings: list[str] = []
    while not examples or (time.monotonic() < deadline and not findings):
        try:
            explored = twins.explore(_AT_ONCE, seed)
        except Exception as error:  # noqa: BLE001 - an assertion, or whatever the engine raised
            shown = "".join(traceback.format_exception(error)).splitlines()[-_LAST_LINES:]
            findings.append(f"seed {seed}: " + "\n".join(shown))
            break
        examples += explored.examples
        steps += explored.steps
        deliveries += explored.deliveries
        seed += 1
    return Outcome(examples + len(findings), findings, {"steps": steps, "deliveries": deliveries})


def _filters(seed: int, seconds: float, folder: pathlib.Path) -> Outcome:
    deadline = time.monotonic() + seconds
    source = random.Random(seed)
    outcome = Outcome(0, [])
    queues = 0
    while not queues or (time.monotonic() < deadline and not outcome.findings):
        path = pathlib.Path(tempfile.mkdtemp(dir=folder)) / "queue"
        decided, findings = filters.judge(path, source)
        outcome.trials += decided
        outcome.findings += findings
        queues += 1
        shutil.rmtree(path.parent)
    outcome.figures["queues"] = queues
    return outcome


ROWS = [
    Row(
        "model",
        "examples of up to 50 random operations, reopenings and crashes on the LMDB engine and on the memory engine",
        "they answer alike; statistics, messages and dead letters are the same, and check finds nothing, at each step",
        _twins,
        "process",
        share=8,
        aim=2_000,
    ),
    Row(
        "filters",
        f"{filters.SUBSCRIBERS} random filters of topics, which change half-way, over messages of random topics",
        "each subscriber gets, in order, what a regular expression made of its filter matches",
        _filters,
        "process",
        share=0.5,
        aim=10_000,
    ),
]
