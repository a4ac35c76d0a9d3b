"""Store and forward: moves messages from one queue to another, each once, through failures of either side.

>>> import persipubsub
>>> from persipubsub.relay import Relay
>>> with persipubsub.Environment("memory:") as edge, persipubsub.Environment("memory:") as centre:
...     _ = edge.new_control(), centre.new_control({"archive"})
...     relay = Relay(edge, centre, name="uplink")
...     relay.prepare()
...     _ = edge.new_publisher().send(b"21.5", topic="temperature")
...     relay.run(drain=True)
...     with centre.new_subscriber("archive").receive_message(timeout=0) as message:
...         print(message.data, message.topic)
1
b'21.5' temperature
"""

from persipubsub.relay.relay import Relay
from persipubsub.relay.status import RelayState, RelayStatus

__all__ = ["Relay", "RelayState", "RelayStatus"]
