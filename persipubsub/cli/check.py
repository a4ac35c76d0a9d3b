"""``persipubsub check``."""

from typing import Annotated

import msgspec
import typer

from persipubsub import Finding, QueueDamagedError
from persipubsub.cli import output
from persipubsub.cli.target import ConfigOption, PathArgument, QueueOption, find_queue, open_control

NAME = "check"
HELP = """Verify everything that is stored in a queue.

Exit status 1 says that something is wrong.

\b
Example: persipubsub check ./queues/frames
"""


def command(
    path: PathArgument = None,
    config: ConfigOption = None,
    queue: QueueOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check a queue."""
    try:
        with open_control(find_queue(path, config, queue)) as control:
            findings = control.check()
    except QueueDamagedError as error:
        findings = [Finding("files", str(error))]
    if as_json:
        output.print_json({"findings": [msgspec.to_builtins(finding) for finding in findings]})
    else:
        for finding in findings:
            typer.echo(f"{finding.where}: {finding.what}")
        if not findings:
            typer.echo("all is well")
    if findings:
        raise typer.Exit(1)
