"""Processes killed at random moments and at named points: nothing is lost, and nothing has two owners at once."""

import pathlib

import pytest
from lmdb import verify

from persipubsub import Durability, Environment
from tests.crash import failpoints, roles
from tests.crash.storm import Weather, growing, storm


@pytest.mark.parametrize(
    ("durability", "kills"), [(Durability.PROCESS, 120), (Durability.COMMIT, 50), (Durability.FULL, 50)]
)
def test_kill_storm(tmp_path: pathlib.Path, durability: Durability, kills: int) -> None:
    blown, verdict = storm(tmp_path, kills, Weather(durability), kills)
    assert blown.findings == []
    assert blown.kills >= kills
    assert verdict.sent > kills
    assert verdict.redeliveries > 0
    # Nothing stays behind of those who died, and the file is sound to LMDB, too.
    with Environment(tmp_path / roles.QUEUE) as env:
        env.new_publisher().send(b"last")
        for identifier in roles.SUBSCRIBERS:
            message = env.new_subscriber(identifier).get(timeout=0)
            assert message is not None
            assert (message.data, message.delivery_count) == (b"last", 1)
            message.ack()
        assert env.open_control().check() == []
    assert verify.verify(str(tmp_path / roles.QUEUE)) == []  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("durability", [Durability.PROCESS, Durability.FULL])
def test_kill_storm_while_the_map_grows(tmp_path: pathlib.Path, durability: Durability) -> None:
    weather = growing(durability)
    blown, _ = storm(tmp_path, 7, weather, kills=25)
    assert blown.findings == []
    assert any(failpoints.FAILPOINTS[name].who == "grower" for name in blown.reached)


@pytest.mark.parametrize("name", failpoints.FAILPOINTS)
def test_points_exist(name: str) -> None:
    owner, attribute = failpoints.find(failpoints.FAILPOINTS[name].where)
    assert callable(getattr(owner, attribute))
