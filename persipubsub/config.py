"""Deployment from a JSON file: read it, see what it would do, do it.

>>> import json, pathlib, tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> file = pathlib.Path(folder.name) / "persipubsub.json"
>>> _ = file.write_text(json.dumps({"queues": {"frames": {"subscribers": ["archive"]}}}))
>>> for row in deploy(load(file)).rows:
...     print(row.action.value, row.queue, row.subscriber)
create frames None
create frames archive
>>> deploy(load(file)).differs
False
>>> folder.cleanup()
"""

from persipubsub.configfile.reading import Config, QueueConfig, SubscriberConfig, load, queue_config, queue_path
from persipubsub.configfile.schema import schema
from persipubsub.deployment import Action, Plan, Row, deploy, plan

__all__ = [
    # reading
    "load",
    "schema",
    "queue_config",
    "queue_path",
    "Config",
    "QueueConfig",
    "SubscriberConfig",
    # deploying
    "plan",
    "deploy",
    "Plan",
    "Row",
    "Action",
]
