"""Mutants: small changes of the core, each of which some test has to notice.

``python -m tests.mutants --seed 1 --number 50`` changes one place of the core at a time, in a copy of the sources, runs
the fast tests on it, and shows the changes that no test noticed. Such a survivor is a gap in the tests, or means the
same as the original.
"""
