"""The row of the long run that is about a cluster of NATS servers which die and are parted."""

import json
import pathlib
import subprocess

from tests.jetstream.storm import in_a_network
from tests.soak.protocol import Outcome, Row

#: Seconds of the time that are for starting the servers and for draining what is left at the end.
_AROUND = 30.0
#: More than can be done in any time.
_MANY = "1000000"


def _storm(seed: int, seconds: float, folder: pathlib.Path) -> Outcome:
    """Disturb the cluster until the time is over."""
    wanted = ["--kills", _MANY, "--partitions", _MANY, "--seed", str(seed)]
    lasting = ["--seconds", str(max(3.0, seconds - _AROUND)), "--folder", str(folder)]
    done = subprocess.run(in_a_network([*wanted, *lasting, "--alone"]), stdout=subprocess.PIPE, text=True)
    if not done.stdout.strip():
        return Outcome(0, [f"the storm ended with {done.returncode} and said nothing"])
    said = json.loads(done.stdout)
    disturbed = ("kills", "cut_off", "parted", "stopped")
    counted = ("confirmed", "unconfirmed", "redelivered")
    findings = [f"{said[name]} {name}" for name in ("lost", "doubled", "stuck") if said[name]]
    return Outcome(
        sum(said[name] for name in disturbed),
        findings + said["errors"],
        {name.replace("_", " "): said[name] for name in (*disturbed, *counted)},
    )


ROWS = [
    Row(
        "cluster-storm",
        "servers of a NATS cluster of three are killed, cut off, parted and stopped while messages pass",
        "nothing confirmed is lost or stored twice, nothing is stuck",
        _storm,
        "process, three replicas",
    )
]
