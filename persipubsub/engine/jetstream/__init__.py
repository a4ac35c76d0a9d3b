"""The JetStream engine: a queue on NATS servers, for programs on many machines.

``location``        the URL, taken apart (imports nothing of NATS)
``names``           what streams, subjects and consumers are called
``wire``            messages as NATS carries them
``stored``          settings and subscribers as they are stored
``translate``       errors of NATS as errors of ours
``link``            the connection, and the thread of its event loop
``pulling``         requests for messages
``notes``           what JetStream does not remember about a message that came back
``holds``           what was taken, and how long that is sure
``session``         an open queue: all that the modules below share
``publish``         storing messages
``ahead``           settling by ids
``settle``          what becomes of messages that were taken
``take``            giving messages out
``newest``          the newest message, and settling all that waits
``roster``          subscribers, their positions and dead letters
``look``            statistics, browsing and the consistency check
``keeper``          what has to happen by itself
``waiting``         waiting for messages and for room
``durability``      whether the servers sync
``deploying``       making the streams
``administration``  the operations on the queue itself and its subscribers
``engine``          all of it behind the interface of an engine
``opening``         finding, deploying and opening
"""
