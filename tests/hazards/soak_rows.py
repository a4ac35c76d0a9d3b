"""The rows of the long run that are about what surrounds a queue: readers, forks, files, the map, clocks."""

from tests.hazards import readers, trials
from tests.soak.protocol import Row

_ALL = "process, full, commit, one queue after another"

ROWS = [
    Row(
        "stale-readers",
        "readers killed inside a receive_view block, while others publish and consume",
        "the file stays within a tenth and 2 MiB of one where nobody is killed, no place of a dead reader is left",
        trials.row(readers.stale),
        _ALL,
    ),
    Row(
        "full-reader-table",
        f"{readers.RECEIVERS} processes with {readers.THREADS} threads receive and look over {readers.PLACES} places",
        "all is received, nothing but a clear error, no error for publishers",
        trials.row(readers.crowded),
        _ALL,
        share=0.5,
    ),
]
