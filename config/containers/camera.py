"""Publishes a frame each second, until it is stopped."""

import sys
import time

from persipubsub import Environment


def main() -> None:
    """Publish to the queue that the command line names."""
    with Environment(sys.argv[1]) as env:
        pub = env.new_publisher()
        while True:
            pub.send(bytes(640 * 480), headers={"camera": "left"})
            time.sleep(1)


if __name__ == "__main__":
    main()
