"""What the page of the ephemeral subscribers says of clients that are killed."""

from pathlib import Path

from persipubsub import Environment, SubscriberSettings
from tests.process import support
from tests.process.support import Child, Children, Here


def listen(here: Here, path: Path) -> None:
    """Add a subscriber that belongs to this process."""
    here.env = Environment(path)
    here.env.open_control().add_subscriber("reply", topic_filter="reply", ephemeral=True)


def test_a_killed_client(tmp_path: Path, children: Children) -> None:
    with Environment(tmp_path / "queue") as env:
        control = env.new_control({"server": SubscriberSettings(topic_filter="sum")})
        client: Child = children.new()
        client.do(listen, env.path)
        assert control.subscriber_ids == {"server", "reply"}
        client.kill()
        # The answer comes too late.
        env.new_publisher().send(b"6", topic="reply")
        support.wait_until(lambda: env.new_subscriber("server").get(timeout=0) is None, "the answer is passed")
        assert control.subscriber_ids == {"server"}
        assert control.statistics().messages == 0
        assert control.check() == []
