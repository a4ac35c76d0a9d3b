"""Do with persipubsub what a program does with RabbitMQ: a topic exchange, bound queues, ack, nack, dead letters."""

import tempfile

from persipubsub import Environment, HighWaterMark, Strategy


def main() -> None:
    """Route logs to two consumers, one of which fails."""
    with tempfile.TemporaryDirectory() as folder, Environment(f"{folder}/logs") as env:
        # pika: exchange_declare("logs", "topic"), queue_declare(..., {"x-max-length": 1000, "x-overflow": ...})
        control = env.new_control(high_water_mark=HighWaterMark(max_messages=1000), strategy=Strategy.REJECT)
        control.add_subscriber("everything")  # pika: queue_bind("everything", "logs", "#")
        control.add_subscriber("errors", topic_filter="*.error", max_deliveries=2)  # pika: queue_bind(..., "*.error")

        pub = env.new_publisher()  # pika: confirm_delivery()
        pub.send(b"started", topic="kernel.info")  # pika: basic_publish("logs", "kernel.info", b"started")
        pub.send(b"disk full", topic="kernel.error")

        with env.new_subscriber("everything") as everything:
            for message in everything.messages(timeout=0):  # pika: for method, properties, body in consume(queue)
                print("everything:", message.topic, message.data)

        errors = env.new_subscriber("errors")
        while (failing := errors.get(timeout=0)) is not None:  # pika: basic_get("errors")
            print("errors:    ", failing.topic, failing.data, "redelivered:", failing.delivery_count > 1)
            failing.nack(reason="no network")  # pika: basic_nack(tag, requeue=True)
        for letter in control.dead_letters("errors"):  # pika: a queue bound to the x-dead-letter-exchange
            print("dead:      ", letter.data, "because of", letter.reason)
        print("requeued:  ", control.dead_letters("errors").requeue())
        with errors.receive(timeout=0) as msg:
            print("now:       ", msg)


if __name__ == "__main__":
    main()
