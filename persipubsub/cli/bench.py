"""``persipubsub bench``."""

import pathlib
from typing import Annotated, Any

import msgspec
import typer

from persipubsub.cli import output, progress

NAME = "bench"
HELP = """Measure this machine, in each durability.

On a temporary queue in FOLDER, which is removed in the end, one process sends and receives messages one by
one, and sends them 100 at once. The figures are for this disk, at this moment; nothing is compared.

\b
Example: persipubsub bench /var/lib/queues --seconds 2 --size 1024
"""


def command(
    folder: Annotated[
        pathlib.Path, typer.Argument(metavar="FOLDER", help="On the disk to measure; else the working directory.")
    ] = pathlib.Path("."),
    seconds: Annotated[float, typer.Option(min=0.01, max=600, help="Time for each of nine measurements.")] = 1.0,
    size: Annotated[int, typer.Option(min=0, max=1 << 26, metavar="BYTES", help="Payload of each message.")] = 128,
    as_json: output.JsonOption = False,
) -> None:
    """Measure."""
    from persipubsub.care.measuring import fsync_seconds, measure

    if not folder.is_dir():
        raise typer.BadParameter(f"{folder} is no folder; give one on the disk to measure.")
    with progress.working(f"measuring in {folder}"):
        fsync = fsync_seconds(folder)
        found = list(measure(folder, seconds=seconds, size=size))
    if as_json:
        rows: list[dict[str, Any]] = [{**msgspec.to_builtins(one), "rate": one.rate} for one in found]
        output.print_json({"folder": str(folder), "size": size, "fsync": fsync, "measurements": rows})
        return
    table = output.table("durability", "what", "#messages/s", "#median", "#p99", "#longest")
    for one in found:
        times = (f"{value * 1e6:,.0f} µs" for value in (one.median, one.p99, one.longest))
        table.add_row(one.durability, one.what, f"{one.rate:,.0f}", *times)
    console = output.console()
    console.print(table)
    console.print(f"{size} bytes of payload, one process; an fsync of 4 KiB takes {fsync * 1e3:.3g} ms here.")
