"""Do with persipubsub what a program does with redis-queue: safe_pop, mark_done, and late tasks handed out again."""

import os
import subprocess
import sys
import tempfile

from persipubsub import Environment, SubscriberSettings

POP_TIMEOUT = 30  # redis-queue: RedisQueue(redis, poptimeout=30, tasktimeout=30, exptime=86400)
TASK_TIMEOUT = 30
EXPIRY = 86400


def die_with_a_task(path: str) -> None:
    """Take a task and die at once, as by kill -9, without a word to anybody."""
    message = Environment(path).new_subscriber("worker").get(timeout=0)
    if message is not None:
        print("a worker died with:", message.data, flush=True)
        os._exit(9)


def main() -> None:
    """Hand out tasks to workers, one of which dies and another of which is late."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "tasks")
        with Environment(path) as env:
            env.new_control({"worker": SubscriberSettings(lease=TASK_TIMEOUT)})
            pub = env.new_publisher()
            for task in (b"resize 1.jpg", b"resize 2.jpg", b"resize 3.jpg"):
                pub.send(task, expires_in=EXPIRY)  # redis-queue: queue.push_msg("tasks", task)

            subprocess.run([sys.executable, __file__, path], check=False, timeout=60)

            # Nobody waits for the task timeout of the dead worker: what it held comes next.
            worker = env.new_subscriber("worker")
            message = worker.get(timeout=POP_TIMEOUT)  # redis-queue: queue.safe_pop_msg("tasks")
            if message is not None:
                print("handed out again:  ", message.data, "delivery", message.delivery_count)
                message.ack()  # redis-queue: queue.mark_done("tasks", id)

            late = worker.get(timeout=POP_TIMEOUT)
            message = worker.get(timeout=POP_TIMEOUT)
            if late is not None and message is not None:
                print("a worker is late:  ", late.data)
                print("meanwhile, no wait:", message.data)
                message.ack()
                late.extend(0.05)  # instead of the task timeout, so that this program does not take 30 seconds
                message = worker.get(timeout=POP_TIMEOUT)
                if message is not None:
                    print("handed out again:  ", message.data, "delivery", message.delivery_count)
                    message.ack()
            print("left:              ", worker.get(timeout=0))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        die_with_a_task(sys.argv[1])
    else:
        main()
