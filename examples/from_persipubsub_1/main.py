"""Run a program that was written for persipubsub 1.0, as it stands, and the same job in today's words."""

import json
import tempfile
from pathlib import Path

import persipubsub
import persipubsub.config
import persipubsub.environment
import persipubsub.queue


def as_it_stands(path: Path) -> None:
    """Do the job with the calls of 1.0 alone."""
    path.mkdir()  # 1.0 wanted the directory to exist
    env = persipubsub.environment.initialize(path=path)
    env.new_control(
        subscriber_ids={"viewer", "archive"},
        high_water_mark=persipubsub.queue.HighWaterMark(message_timeout=500, max_messages=1000),
        strategy=persipubsub.queue.Strategy.PRUNE_FIRST,
    )
    pub = env.new_publisher()
    pub.send(msg=b"frame 1")
    pub.send_many(msgs=[b"frame 2", b"frame 3"])

    archive = env.new_subscriber(identifier="archive")
    for _ in range(3):
        with archive.receive(timeout=2, retries=10) as msg:
            print("archive:", msg)
    with env.new_subscriber(identifier="viewer") as viewer, viewer.receive_to_top() as msg:
        print("viewer: ", msg)
    env.close()


def in_todays_words(folder: Path) -> None:
    """Do the same, deployed from a file, with what 1.0 did not tell of a message."""
    file = folder / "queues.json"
    queue = {
        "subscribers": ["viewer", "archive"],
        "high_water_mark": {"message_timeout": 500, "max_messages": 1000},
        "strategy": "prune_first",
    }
    file.write_text(json.dumps({"root": "queues", "queues": {"frames": queue}}), encoding="utf-8")
    persipubsub.config.deploy(persipubsub.config.load(file))

    with persipubsub.Environment.from_config(file, "frames") as env:
        pub = env.new_publisher()
        pub.send(b"frame 1", headers={"camera": "left"})
        pub.send_many([b"frame 2", b"frame 3"])
        for message in env.new_subscriber("archive").messages(timeout=0):
            print("archive:", message.id, message.data, message.headers)
        with env.new_subscriber("viewer").receive_to_top(timeout=0) as msg:
            print("viewer: ", msg)


def main() -> None:
    """Run both."""
    with tempfile.TemporaryDirectory() as folder:
        print("as it stands")
        as_it_stands(Path(folder) / "queue")
        print("in today's words")
        in_todays_words(Path(folder))


if __name__ == "__main__":
    main()
