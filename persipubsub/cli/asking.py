"""Asking before something is gone for good."""

import sys

import typer


def confirm(what: str, yes: bool) -> None:
    """Go on if the person at the terminal says so, or has said so with ``--yes``; ``what`` starts with a verb.

    :raise typer.BadParameter: nobody can be asked
    :raise typer.Exit: the answer is no; the exit status is 1
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter(f"This is to {what}; confirm it with --yes.")
    if not typer.confirm(f"{what[0].upper()}{what[1:]}?", err=True):
        raise typer.Exit(1)
