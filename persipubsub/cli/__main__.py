"""Run the command line as ``python -m persipubsub.cli``."""

from persipubsub.cli import main

if __name__ == "__main__":
    main()
