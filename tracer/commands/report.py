"""`twtrace report`: what traces say."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from tracer.commands.options import Parser, add_filters, command_parser, filters_of, inode_in_trace
from tracer.errors import ExitCode, UsageError
from tracer.expression import Expression
from tracer.model import Site
from tracer.output import Output
from tracer.reader import open_trace
from tracer.report import page
from tracer.report.data import as_json
from tracer.report.many import read_all
from tracer.report.model import GROUPINGS
from tracer.report.reading import Part, Wanted
from tracer.report.text import render_all
from tracer.whatif import parse_change

_EXAMPLES = """\
examples:
  twtrace report run.ndjson
  twtrace report run.ndjson --by unit -D 5432 --filter '!proc:haproxy'
  twtrace report run.ndjson --what-if keepalive --what-if port_range=1024-65535
  twtrace report before.ndjson after.ndjson    what changed, of one host at two times
  twtrace report web.ndjson db.ndjson          two hosts, and who of them closed first
  twtrace report run.ndjson --html > run.html
  twtrace report run.ndjson --json | jq '.findings[] | select(.severity != "fine")'
"""

_GC_THRESHOLD = 200_000


def parser() -> Parser:
    """Its options."""
    parser = command_parser(
        "report",
        "Who, why, is it a problem, what to change; from one trace or several. Needs no privileges.",
        _EXAMPLES,
    )
    parser.add_argument(
        "file",
        nargs="+",
        metavar="FILE",
        help="a trace; - is stdin. Files of one recording are read as one; two recordings of one host, one"
        " after the other, are compared; else hosts are told apart, and both ends of connections joined",
    )
    parser.add_argument(
        "--by", choices=GROUPINGS, default="process", help="what the rows of WHO are (process)"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="the same as JSON")
    form.add_argument("--html", action="store_true", help="the same as a page with plots, complete in itself")
    several = parser.add_mutually_exclusive_group()
    several.add_argument(
        "--compare",
        action="store_const",
        const=True,
        dest="compare",
        help="compare two recordings, whatever their hosts and times",
    )
    several.add_argument(
        "--apart", action="store_const", const=False, dest="compare", help="never compare recordings"
    )
    parser.add_argument(
        "--what-if",
        action="append",
        default=[],
        metavar="CHANGE",
        help="run its connections again under tw_reuse=0|1|2, port_range=LOW-HIGH, keepalive,"
        " peer-closes-first or max_tw_buckets=N; repeatable",
    )
    parser.add_argument(
        "--symbols",
        metavar="FOLDER",
        help="copies of programs and debug files, for call sites that the trace has no names of",
    )
    parser.add_argument("--color", choices=("auto", "always", "never"), default="auto")
    add_filters(parser)
    return parser


def run(arguments: list[str]) -> int:
    """Run the command."""
    options = parser().parse_args(arguments)
    filters = filters_of(options, inode_in_trace)
    _require_no_rows(filters.expression)
    wanted = Wanted(options.by, filters, tuple(map(parse_change, options.what_if)))
    # A trace makes tuples by the million, and none that is in a cycle: looking for those took a tenth.
    gc.set_threshold(_GC_THRESHOLD)
    with ExitStack() as opened:
        named = _names(options.symbols, opened)
        parts = [Part(_lines(name, opened), name, named) for name in options.file]
        reports = read_all(parts, wanted, compare=options.compare)
    output = Output(options.color)
    if options.json:
        sys.stdout.write(as_json(reports).decode())
    elif options.html:
        output.write(page.render(reports))
    else:
        output.write(render_all(reports, color=output.color))
    return ExitCode.OK


def _names(folder: str | None, opened: ExitStack) -> Callable[[Site], Site]:
    """What knows more of sites than the trace."""
    if folder is None:
        return lambda site: site
    if not Path(folder).is_dir():
        raise UsageError(f"{folder} is no folder", "give one with copies of programs and debug files")
    from tracer.symbols.later import Later  # noqa: PLC0415 - for few reports

    return opened.enter_context(Later(folder)).named


def _lines(name: str, opened: ExitStack) -> Iterable[bytes]:
    """A file is closed again between its first line and the rest: there may be more than can be open."""
    if Path(name).is_file():
        return _lines_of_file(name)
    return opened.enter_context(open_trace(name))


def _lines_of_file(name: str) -> Iterator[bytes]:
    with open_trace(name) as lines:
        first = next(iter(lines), None)
    if first is None:
        return
    yield first
    with open_trace(name) as lines:
        next(iter(lines), None)
        yield from lines


def _require_no_rows(expression: Expression) -> None:
    """A report's rows are of the whole trace, and have no rates of a moment."""
    if expression.row_level:
        rows = expression.for_rows()
        raise UsageError(
            f"filter {rows.text}: asks about the rows of a view, at a moment of it",
            "give keys of owners and connections (man twtrace); of rows: `twtrace replay FILE`, or --json",
        )
