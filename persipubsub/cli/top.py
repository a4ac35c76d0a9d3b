"""``persipubsub top``."""

import sys

from persipubsub.cli.extras import needing
from persipubsub.cli.finding import find_queues
from persipubsub.cli.options import ConfigOption, IntervalOption, LocationsArgument, QueuesOption
from persipubsub.errors import PersipubsubError

NAME = "top"
HELP = """Watch queues live in the terminal.

Shows rates, lag, ages, dead letters and disk space of queues and their subscribers. Enter opens a queue:
its owners, last messages and dead letters, which can be requeued and discarded. The keys stand in the
last line; no mouse is needed. Without a queue, all of the deployment file are shown.

\b
Example: persipubsub top ./queues
"""


def command(
    paths: LocationsArgument = None,
    config: ConfigOption = None,
    queue: QueuesOption = None,
    interval: IntervalOption = 1.0,
) -> None:
    """Watch queues in the terminal."""
    with needing("top", "textual"):
        from persipubsub.watch.top.app import TopApp
    from persipubsub.watch.source import Source
    from persipubsub.watch.watching import Watch

    found = find_queues(paths or [], config, queue or [])
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise PersipubsubError("`persipubsub top` needs a terminal; for scripts there is `persipubsub status --json`.")
    watch = Watch([Source(name, location) for name, location in found.items()])
    try:
        TopApp(watch, interval).run()
    finally:
        watch.close()
