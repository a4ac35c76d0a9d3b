"""Do with persipubsub what a program does with persistent-queue-log: a log for ever, read by named clients."""

import tempfile
import threading
from pathlib import Path

from persipubsub import Environment, Retention
from persipubsub.serializers import msgpack_dumps, msgpack_loads


def main() -> None:
    """Write a log, read it by several names, and wait for what is put meanwhile."""
    with tempfile.TemporaryDirectory() as folder, Environment(Path(folder) / "log") as env:
        control = env.new_control({"billing"}, retention=Retention.LOG)  # theirs: with Queue("log.sqlite") as queue
        pub = env.new_publisher(serializer=msgpack_dumps)
        for item in ({"order": 1}, {"order": 2}, None):
            pub.send(item)  # theirs: queue.put(item); once it returns, it is on the disk

        billing = env.new_subscriber("billing", msgpack_loads)
        with billing.messages(timeout=0) as messages:  # theirs: for item in queue.get("billing")
            for message in messages:
                print("billing:", message.data)
                if message.data == {"order": 2}:
                    break  # not acknowledged: only asking for the next one acknowledges
        with billing.messages(timeout=0) as messages:
            print("billing, after the break:", [message.data for message in messages])

        # A new name reads from the beginning, whoever has read before.
        control.add_subscriber("audit", start="first")
        audit = env.new_subscriber("audit", msgpack_loads)
        with audit.messages(timeout=0) as messages:
            print("audit:", [message.data for message in messages])

        later = threading.Timer(0.05, pub.send, [{"order": 3}])
        later.start()
        with audit.messages(timeout=30) as messages:  # theirs: for item in queue.get_blocking("audit")
            for message in messages:
                print("audit, waiting:", message.data)
                message.ack()  # said here, not by asking for one more
                break
        later.join()

        audit.seek("first")
        with audit.receive_many(100, timeout=0) as items:
            print("audit, once more:", items)
        print("kept:", control.statistics().messages)


if __name__ == "__main__":
    main()
