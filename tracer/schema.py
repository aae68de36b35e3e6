"""JSON Schema of a trace's lines, out of their definitions."""

from __future__ import annotations

from typing import Any

import msgspec.json

from tracer import __version__
from tracer.lines import OWNER_RULE, AnyLine, OwnerLine
from tracer.model import SCHEMA

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """That of one line, whichever its type."""
    (any_line, _), definitions = msgspec.json.schema_components(
        (AnyLine, OwnerLine), ref_template="#/$defs/{name}"
    )
    definitions[OwnerLine.__name__] |= OWNER_RULE
    return {
        "$schema": DIALECT,
        "$id": f"urn:twtrace:trace:{SCHEMA}:{__version__}",
        "title": f"A line of a twtrace trace, schema {SCHEMA}",
        "description": "Times are whole microseconds. Fields and types of lines may be added within a schema:"
        " skip what is not known.",
        **any_line,
        "$defs": definitions,
    }
