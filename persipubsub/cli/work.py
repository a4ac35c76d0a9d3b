"""``persipubsub work``."""

import datetime
import pathlib
import sys
from typing import Annotated

import msgspec
import typer

from persipubsub.cli import output
from persipubsub.cli.finding import find_queue
from persipubsub.cli.options import ConfigOption, QueueOption, SubscriberOption
from persipubsub.cli.supervision import Event, Supervisor
from persipubsub.environment import Environment

NAME = "work"
HELP = """Keep processes alive that handle messages.

HANDLER is module:function; it gets each message. When it returns, the message is acknowledged. When it
raises, the message comes again after a while, later and later, until it is a dead letter. A coroutine
function is run in asyncio. SIGTERM and Ctrl-C let handlers finish; what they do not finish within
--grace is given back. A process that dies is replaced.

\b
Example: persipubsub work shop.orders:handle --config queues.json --queue orders --subscriber billing --processes 4
"""


def command(
    handler: Annotated[str, typer.Argument(metavar="HANDLER", help="The function, as module:function.")],
    subscriber: SubscriberOption,
    path: Annotated[pathlib.Path | None, typer.Option("--path", metavar="PATH", help="Directory of the queue.")] = None,
    config: ConfigOption = None,
    queue: QueueOption = None,
    processes: Annotated[int, typer.Option("--processes", "-p", min=1, help="Number of processes.")] = 1,
    concurrency: Annotated[int, typer.Option(min=1, help="Threads (or asyncio tasks) in each process.")] = 1,
    grace: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Time that handlers get to finish at the stop.")
    ] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print an object for each process that starts or ends.")] = (
        False
    ),
) -> None:
    """Keep workers running."""
    # Here, because it loads asyncio, which no other command needs.
    from persipubsub.cli import working

    directory = find_queue(path, config, queue)
    # What is wrong in the command line is said once, and not by every process again and again.
    working.find_handler(handler)
    with Environment(directory) as environment:
        location = environment.location
        environment.new_subscriber(subscriber).close()
    task = working.Task(location, subscriber, handler, concurrency, grace)
    arguments = ["-m", working.__name__, msgspec.json.encode(task).decode()]
    Supervisor(arguments, processes, grace, _report_json if as_json else _report).run()


def _report(event: Event) -> None:
    if event.event != "stopped":  # asked to, as they should
        sys.stderr.write(f"persipubsub: {event}\n")
        sys.stderr.flush()


def _report_json(event: Event) -> None:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    output.print_json({"at": now, **msgspec.to_builtins(event)})
