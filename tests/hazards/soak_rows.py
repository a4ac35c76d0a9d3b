"""The rows of the long run that are about what surrounds a queue: readers, forks, files, the map, clocks."""

import functools

from tests.hazards import (
    bells,
    clocks,
    doors,
    exits,
    forks,
    fullmap,
    longlife,
    namespaces,
    overflow,
    readers,
    replaced,
    security,
    stuck,
    trials,
)
from tests.soak.protocol import Row

_ALL = "process, full, commit, one queue after another"

ROWS = [
    Row(
        "stale-readers",
        "readers killed inside a receive_view block, while others publish and consume",
        "the file stays within a tenth and 2 MiB of one where nobody is killed, no place of a dead reader is left",
        trials.row(readers.stale),
        _ALL,
        aim=1_000,
    ),
    Row(
        "full-reader-table",
        f"{readers.RECEIVERS} processes with {readers.THREADS} threads receive and look over {readers.PLACES} places",
        "all is received, nothing but a clear error, no error for publishers",
        trials.row(readers.crowded),
        _ALL,
        share=0.5,
        aim=2_000,
    ),
    Row(
        "double-open",
        "a queue opened by ten spellings of its path, by links and a bind mount, and by a hard link of its file",
        "one environment for a process; the hard link is refused",
        trials.row(doors.double_open),
        _ALL,
        share=0.5,
        aim=400,
    ),
    Row(
        "open-close",
        f"{doors.CHURNERS} processes open, use and close a queue again and again",
        "no error, nothing lost, no descriptor left over",
        trials.row(doors.churn),
        _ALL,
        aim=40_000,
    ),
    Row(
        "stuck-writer",
        "a writer stopped where it keeps others out, also with what they have posted in its commit",
        f"they raise within lock_timeout + {stuck.LATE:g} s and name it, an interrupt comes through within "
        f"{stuck.LATE:g} s, what was refused is not stored, all goes on afterwards",
        trials.row(stuck.stuck),
        "full and process",
        share=2,
        aim=50,
    ),
    Row(
        "files-replaced",
        "; ".join(replaced.WAYS),
        "each process raises QueueReplacedError at the first operation that begins afterwards; where a folder above is "
        f"moved, at the first that begins {replaced.GLANCE:g} s afterwards",
        trials.row(replaced.replaced),
        _ALL,
        aim=200,
    ),
    Row(
        "forks",
        f"forks of a parent: {', '.join(forks.STATES)}; by multiprocessing: {', '.join(forks.METHODS)}; the child ends "
        f"by {', '.join(forks.ENDS)}",
        "a child never uses the environment of its parent, it sends and receives; nothing of the parent is disturbed",
        trials.row(functools.partial(forks.forked, rounds=forks.ROUNDS)),
        _ALL,
        share=2,
        aim=1_800,
    ),
    Row(
        "preloaded-forks",
        "gunicorn opens the queue before it forks its workers, which are replaced meanwhile",
        "as above",
        trials.row(forks.preloaded),
        _ALL,
        share=0.5,
        aim=200,
    ),
    Row(
        "full-map",
        "a map that is full, and files that may not grow: acknowledgements and pruning, first beside somebody who "
        "reads a view and is killed in it",
        f"all succeed without a view, at least {fullmap.PINNED_ACKS} beside one; then the queue takes messages again",
        trials.row(fullmap.full),
        _ALL,
        aim=10_000,
    ),
    Row(
        "map-growth",
        f"a map of 1 MiB that grows under {fullmap.PUBLISHERS} publishers and a consumer",
        "no error comes through, every byte arrives",
        trials.row(fullmap.growing),
        _ALL,
        aim=1_000,
    ),
    Row(
        "clock-jumps",
        "the wall clock jumps by up to ten years while two owners send, take, hold and settle",
        "nothing lost, order kept, nothing held by two, no lease ended before its time",
        trials.row(clocks.jumping),
        _ALL,
        share=0.5,
        aim=1_000,
    ),
    Row(
        "exits",
        f"{len(exits.EXITS)} ways out of {len(exits.FORMS)} forms of handling",
        "nothing acknowledged that was not handled; a dead letter after as many deliveries as are allowed",
        trials.row(exits.exits),
        _ALL,
        aim=480,
    ),
    Row(
        "overflow",
        "publishers overflow a queue that prunes the oldest messages",
        "settled + lost = published for every subscriber; in order, nothing twice",
        trials.row(overflow.storm),
        _ALL,
        share=0.5,
        aim=10_000,
    ),
    Row(
        "long-life",
        "a publisher, two consumers and a visitor that live through the whole run; what they and the queue use of the "
        f"machine, {longlife.SAMPLES} times",
        "no more at the end than after the first fifth: memory, descriptors, threads, places of readers, files, pages",
        longlife.run,
        "process, full, commit: the seed chooses",
        share=4,
        aim=100_000,
    ),
    Row(
        "bells",
        f"what wakes a sleeper is taken away: {', '.join(bells.WAYS)}",
        f"the message is there within {bells.LATE:g} s all the same, and the next one comes, too",
        trials.row(bells.taken_away),
        _ALL,
        share=0.5,
        aim=50,
    ),
    Row(
        "namespaces",
        "containers: two processes with the same id, an id that is given again after its reader died, another network",
        "a clear error, and none for the first; the place of the dead is free; who sleeps is woken",
        trials.row(namespaces.contained),
        _ALL,
        share=2,
        aim=150,
    ),
    Row(
        "security",
        f"queues deployed with {len(security.UMASKS)} umasks, {len(security.NAMES) * len(security.KINDS)} planted "
        "links, FIFOs, folders and files, hostile payloads and headers",
        "no file is open to more than asked; refused, and nothing else touched; nothing unpickled, run or imported",
        trials.row(security.secured),
        _ALL,
        share=0.5,
        aim=1_000,
    ),
]
