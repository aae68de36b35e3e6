"""What people are told about TIME_WAIT, each claim of `tracer.claims` as an experiment.

    python -m tests.scenarios.claims [--json | --write-docs] [NUMBER...]

Needs root. All experiments run at once, each in a network namespace of its own,
under one recording of twtrace; it takes as long as the longest of them waits,
70 s or so.
"""
