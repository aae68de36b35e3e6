"""Completions for shells, made from the parsers of the commands.

Not with shtab, which does this for argparse: it wants one parser with subparsers, and it does not complete
another command after `--`, as `record` has it.
"""
