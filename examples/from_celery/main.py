"""Do with persipubsub what a program does with Celery: tasks that are functions, delays, retries, workers."""

import tempfile
from collections.abc import Callable
from typing import Any

from persipubsub import Backoff, Environment, Message, SubscriberSettings, Worker
from persipubsub.serializers import json_dumps, json_loads

TASKS: dict[str, Callable[..., object]] = {}


def task(function: Callable[..., object]) -> Callable[..., object]:
    """Let workers find a function by its name; celery: @app.task."""
    TASKS[function.__name__] = function
    return function


@task
def add(x: int, y: int) -> None:
    """Add two numbers."""
    print("add:   ", x + y)


@task
def mail(to: str) -> None:
    """Fail always."""
    print("mail:  ", to)
    raise ConnectionError("no route to host")


def job(name: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return a task with its arguments, as it is sent."""
    return {"task": name, "args": args, "kwargs": kwargs}


def main() -> None:
    """Send tasks and work them off."""
    with tempfile.TemporaryDirectory() as folder, Environment(f"{folder}/tasks") as env:
        # celery: @app.task(max_retries=1)
        control = env.new_control({"worker": SubscriberSettings(max_deliveries=2)})
        tasks = env.new_publisher(serializer=json_dumps)

        tasks.send(job("add", 2, 3))  # celery: add.delay(2, 3)
        tasks.send(job("mail", to="ann"))  # celery: mail.delay(to="ann")
        tasks.send(job("add", 4, 5), delay=2, expires_in=60)  # celery: add.apply_async((4, 5), countdown=…)

        def handle(message: Message[Any]) -> None:
            call = message.data
            if message.delivery_count > 1:
                print("retry after:", message.last_error)
            try:
                TASKS[call["task"]](*call["args"], **call["kwargs"])
            finally:
                if message.id == 3:
                    worker.stop()  # this program ends; a worker goes on until SIGTERM

        # celery: celery worker --concurrency 1, and @app.task(autoretry_for=(Exception,), retry_backoff=True)
        retries = Backoff(first=0.01, jitter=0)
        worker = Worker(handle, env.new_subscriber("worker", json_loads), concurrency=1, backoff=retries)
        print("handled:", worker.run())
        for letter in control.dead_letters("worker"):
            print("failed: ", letter.data.decode(), "because of", letter.reason)


if __name__ == "__main__":
    main()
