"""`twtrace demo`: the same on a workload of our own."""

from __future__ import annotations

from tracer.commands import live
from tracer.commands.options import Parser, add_common, command_parser
from tracer.demo import Demo
from tracer.kernel.loader import require_privilege

_EXAMPLES = """\
examples:
  sudo twtrace demo                  see each way of closing, until Ctrl-C
  sudo twtrace demo -d 10s | cat     the same as a table, for ten seconds
"""


def parser() -> Parser:
    """Its options."""
    parser = command_parser("demo", "A small labelled workload on loopback, and its trace.", _EXAMPLES)
    add_common(parser)
    return parser


def run(arguments: list[str]) -> int:
    """Run the command."""
    options = parser().parse_args(arguments)
    require_privilege()
    demo = Demo()
    try:
        demo.start()
        options.netns = options.netns or str(demo.netns)
        return live.show(options, ("twtrace", "demo", *arguments), on_attached=demo.go)
    finally:
        demo.stop()
