"""Do with persipubsub what a program does with litequeue."""

import tempfile
from pathlib import Path

from persipubsub import Environment, HighWaterMark, QueueFullError, Strategy


def main() -> None:
    """Put, pop, mark as done or failed, and retry."""
    with tempfile.TemporaryDirectory() as folder, Environment(Path(folder) / "queue") as env:
        # theirs: LiteQueue("queue.sqlite", maxsize=3)
        control = env.new_control({"worker"}, HighWaterMark(max_messages=3), Strategy.REJECT)
        pub = env.new_publisher()
        worker = env.new_subscriber("worker")

        for data in (b"one", b"two", b"three"):
            pub.send(data)  # theirs: queue.put(data)
        try:
            pub.send(b"four")
        except QueueFullError:  # theirs: sqlite3.IntegrityError, and queue.full()
            print("full")

        peeked = worker.peek()  # theirs: queue.peek()
        print("next:", peeked and peeked.data)

        message = worker.get(timeout=0)  # theirs: queue.pop()
        if message is not None:
            print("done:", message.data)
            message.ack()  # theirs: queue.done(message.message_id)

        message = worker.get(timeout=0)
        if message is not None:
            print("retry:", message.data)
            message.nack()  # theirs: queue.retry(message.message_id)

        message = worker.get(timeout=0)
        if message is not None:
            print("failed:", message.data, "delivery", message.delivery_count)
            message.reject("out of paper")  # theirs: queue.mark_failed(message.message_id)

        dead = control.dead_letters("worker")
        print("failed so far:", [(letter.data, letter.reason) for letter in dead])  # theirs: queue.list_failed()
        print("again:", dead.requeue())  # theirs: queue.retry(...) of each of them
        print("size:", control.statistics().subscribers[0].lag)  # theirs: queue.qsize()
        with worker.receive_many(10, timeout=0) as payloads:
            print("rest:", payloads)
        print("stored:", control.statistics().messages)  # theirs: queue.prune(); here what is done is gone


if __name__ == "__main__":
    main()
