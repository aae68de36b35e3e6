"""`twtrace doctor`: what is allowed here."""

from __future__ import annotations

from tracer import doctor
from tracer.commands.options import Parser, command_parser

_EXAMPLES = """\
examples:
  sudo twtrace doctor
  sudo twtrace doctor --json | jq '.checks[] | select(.status != "works")'
"""


def parser() -> Parser:
    """Its options."""
    parser = command_parser("doctor", "What this kernel and user allow; every hook is tried.", _EXAMPLES)
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    return parser


def run(arguments: list[str]) -> int:
    """Run the command."""
    options = parser().parse_args(arguments)
    return doctor.run(as_json=options.json)
