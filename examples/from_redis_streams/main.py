"""Do with persipubsub what a program does with Redis Streams: groups, pending entries, claiming, replay, trimming."""

import tempfile

from persipubsub import Environment, HighWaterMark, Retention


def main() -> None:
    """Read a stream by two groups, one of which has a consumer that dies."""
    with tempfile.TemporaryDirectory() as folder:
        env = Environment(f"{folder}/readings")  # redis: the key of the stream
        # redis: XADD readings MAXLEN 1000 ...
        control = env.new_control(retention=Retention.LOG, high_water_mark=HighWaterMark(max_messages=1000))
        control.add_subscriber("alarms", start="first")  # redis: XGROUP CREATE readings alarms 0 MKSTREAM

        pub = env.new_publisher()
        for degrees in (20, 21, 95):
            pub.send(str(degrees).encode(), headers={"sensor": "oven"})  # redis: XADD readings * sensor oven ...
        control.add_subscriber("archive", start="latest")  # redis: XGROUP CREATE readings archive $

        dying = Environment(env.path)
        consumer = dying.new_subscriber("alarms")
        taken = consumer.get_many(2, timeout=0)  # redis: XREADGROUP GROUP alarms one COUNT 2 STREAMS readings >
        print("taken:  ", [message.data for message in taken])
        taken[0].ack()  # redis: XACK readings alarms id
        figures = control.statistics().subscribers[0]  # redis: XPENDING readings alarms, XINFO GROUPS readings
        print("pending:", figures.leased, "lag:", figures.lag)
        dying.close()  # as if the consumer had ended; redis: XAUTOCLAIM after a while

        sub = env.new_subscriber("alarms")
        for message in sub.get_many(10, timeout=0):
            print("handled:", message.id, message.data, "delivery", message.delivery_count)
            message.ack()

        sub.seek("first")  # redis: XGROUP SETID readings alarms 0
        with sub.receive_many(10, timeout=0) as payloads:
            print("replay: ", payloads)
        print("stream: ", [(message.id, message.data) for message in env.browse()])  # redis: XRANGE readings - +
        env.close()


if __name__ == "__main__":
    main()
