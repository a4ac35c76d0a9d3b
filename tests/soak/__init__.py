"""The long run: rows of trials, each with a target, and a scorecard of what came out.

``python -m tests.soak --minutes 10 --seed 1 --json out.json`` runs every row and exits with 1 if one of them
missed its target. ``--rows`` names some of them, ``--list`` shows all.

A row is a :class:`tests.soak.protocol.Row` in the list ``ROWS`` of a module ``tests/*/soak_rows.py``: it is found by
being there.
"""
