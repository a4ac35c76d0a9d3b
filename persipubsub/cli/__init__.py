"""The command line; needs the extra ``cli`` (Typer and rich)."""

import sys


def main() -> None:
    """Run the command line with the arguments of this process and exit."""
    try:
        from persipubsub.cli.app import run
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.stderr.write(
            f"persipubsub: error: the command line needs {error.name}; install it with: "
            "pip install 'persipubsub[cli]'\n"
        )
        sys.exit(2)
    sys.exit(run(sys.argv[1:]))
