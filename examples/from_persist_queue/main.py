"""Do with persipubsub what a program does with persist-queue's SQLiteAckQueue."""

import tempfile
from pathlib import Path

from persipubsub import Environment, Retention
from persipubsub.serializers import json_dumps, json_loads


def main() -> None:
    """Put tasks, then acknowledge, return, and give up."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tasks"
        with Environment(path) as env:
            control = env.new_control({"worker"}, retention=Retention.LOG)  # theirs: SQLiteAckQueue(path)
            pub = env.new_publisher(serializer=json_dumps)
            worker = env.new_subscriber("worker", json_loads)
            print("put:", [pub.send({"task": number}) for number in (1, 2, 3)])  # theirs: queue.put(item)

            message = worker.get(timeout=0)  # theirs: queue.get(block=False)
            if message is not None:
                print("done:", message.data)
                message.ack()  # theirs: queue.ack(item)

            message = worker.get(timeout=0)
            if message is not None:
                print("failed for now:", message.data)
                message.nack(reason="try again")  # theirs: queue.nack(item)

            message = worker.get(timeout=0)
            if message is not None:
                print("failed for good:", message.data, "delivery", message.delivery_count, "after", message.last_error)
                message.reject("no such file")  # theirs: queue.ack_failed(item)

            worker.get(timeout=0)  # taken and never settled: the program ends here
            figures = control.statistics().subscribers[0]
            print(f"waiting {figures.waiting}, unack {figures.leased}, acked {figures.settled}, failed {figures.dead}")

        # theirs: SQLiteAckQueue(path), or resume_unack_tasks(); here it went back by itself
        with Environment(path) as env, env.new_subscriber("worker", json_loads).receive(timeout=0) as task:
            print("resumed:", task)
        with Environment(path) as env:
            control = env.open_control()
            for letter in control.dead_letters("worker"):
                print("dead:", letter.data.decode(), "because of", letter.reason)
            # theirs: clear_acked_data(keep_latest=2); acknowledged tasks stay only because this queue is a log
            print("history:", [message.data.decode() for message in env.browse(start=2)])


if __name__ == "__main__":
    main()
