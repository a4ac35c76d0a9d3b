"""Do with persipubsub what a program does with psmq: named queues, visibility timeouts, retrieval counts."""

import tempfile

from persipubsub import QueueManager, SubscriberSettings
from persipubsub.serializers import json_dumps, json_loads

# psmq: QueueConfiguration(visibility_timeout=60, retries=2)
WORKER = SubscriberSettings(lease=60, max_deliveries=2)


def main() -> None:
    """Send mails through one of two queues."""
    with tempfile.TemporaryDirectory() as root:
        manager = QueueManager(root)
        for name in ("mail", "thumbnails"):  # psmq: create_queue(name)
            manager.create(name, subscriber_ids={"worker": WORKER}).close()
        print("queues:", ", ".join(manager.names()))

        with manager.open("mail") as env:  # psmq: Queue(connection, "mail")
            pub = env.new_publisher(serializer=json_dumps)
            worker = env.new_subscriber("worker", json_loads)

            pub.send({"to": "ann"}, headers={"priority": "high"})  # psmq: queue.push(...)
            pub.send_many([{"to": "bob"}, {"to": "eve"}])  # psmq: queue.push_many([...])
            pub.send({"to": "next week"}, delay=7 * 24 * 3600)  # psmq: queue.push(..., delay=...)

            peeked = worker.peek()  # psmq's README: queue.peek()
            print("peeked at:", peeked and peeked.data)

            message = worker.get(timeout=0, lease=30)  # psmq: queue.get(visibility_timeout=30)
            if message is not None:
                print("got:", message.data, "retrievals:", message.delivery_count, dict(message.headers))
                message.ack()  # psmq: queue.delete(message.message_id)

            message = worker.pop(timeout=0)  # psmq: queue.pop()
            print("popped:", message and message.data)

            while (message := worker.get(timeout=0)) is not None:
                print("failing:", message.data, "retrievals:", message.delivery_count)
                message.nack(reason="mailbox full")
            for letter in env.open_control().dead_letters("worker"):
                print("gave up:", letter.data.decode(), "after", letter.delivery_count, "because of", letter.reason)

            statistics = env.open_control().statistics()  # psmq: queue.metadata()
            figures = statistics.subscribers[0]
            print("sent", statistics.published, "received", figures.deliveries, "delayed", figures.delayed)

        print("deleted:", manager.delete("mail"), manager.names())  # psmq: delete_queue("mail")


if __name__ == "__main__":
    main()
