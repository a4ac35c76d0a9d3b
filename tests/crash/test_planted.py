"""Each detector of the storms turns red on a bug of its kind: what stays green on a planted bug counts for nothing."""

import dataclasses
import pathlib

import pytest

from persipubsub import Durability
from tests.crash import failpoints, planted
from tests.crash.storm import Weather, growing, storm

#: Bug, and what of the findings names it.
STORMS = {
    "acknowledge on exception": "was given back and never delivered again",
    "dead owners ignored": "stuck: ",
    "the living taken for dead": "LeaseLostError",
    "acknowledgements forgotten": "was delivered again after its acknowledgement",
    "no commit": "was sent and never delivered to",
    "newest first": "for the first time after",
    "nothing deleted": "messages are left over",
    "map not followed": "another process keeps growing the map",
}


@pytest.mark.parametrize("bug", STORMS)
def test_storm_finds(tmp_path: pathlib.Path, bug: str) -> None:
    weather = growing(Durability.PROCESS) if "map" in bug else Weather(Durability.PROCESS)
    # What gets stuck need not be awaited for long.
    weather = dataclasses.replace(weather, bugs=[bug], patience=2.0, admins=0)
    findings = ""
    # A short storm does not come by every place: on a busy machine the map may not grow in one.
    for seed in range(3, 28):
        folder = tmp_path / str(seed)
        folder.mkdir()
        blown, _ = storm(folder, seed, weather, kills=12)
        findings += "\n".join(blown.findings)
        if STORMS[bug] in findings:
            break
    assert STORMS[bug] in findings


@pytest.mark.parametrize("bug", planted.PLANTED)
def test_places_exist(bug: str) -> None:
    owner, attribute = failpoints.find(planted.PLANTED[bug][0])
    assert callable(getattr(owner, attribute))
