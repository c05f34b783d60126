"""Whether OpenLineage's events keep the published schemas.

No package holds the specification's JSON schemas. What stands in `openlineage-python` (Apache-2.0)
is generated from them: a class for each object, with its properties, their types, those that are
required, and the address of its schema. Here they become JSON schemas again, stricter than the
published ones: an object has no other properties unless they are asked for, and times, ids and
addresses are looked at.
"""

import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import Enum
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import attr
from jsonschema import Draft202012Validator, FormatChecker
from openlineage.client import generated
from openlineage.client.generated.base import BaseFacet, RunEvent

_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean"}
_FORMATS = {
    **dict.fromkeys(("eventTime", "nominalStartTime", "nominalEndTime"), "date-time"),
    **dict.fromkeys(("producer", "_producer", "schemaURL", "_schemaURL"), "uri"),
    "runId": "uuid",
}
_FILLED_IN = {"producer", "schemaURL", "_producer", "_schemaURL"}  # by the client; all required
_CHECKER = FormatChecker(["uuid"])
_CHECKER.checks("date-time", ValueError)(lambda text: datetime.fromisoformat(text).tzinfo)
_CHECKER.checks("uri", ValueError)(lambda text: urlsplit(text).scheme)


def faults(event: dict[str, Any]) -> list[str]:
    """Return where a run's event, as it goes over the wire, breaks the schemas that it names."""
    found = [*_faults("event", event, RunEvent._get_schema(), event.get("schemaURL"))]
    for place, facet in _facets("event", event):
        found += _faults(place, facet, facet.get("_schemaURL"))
    return found


Column = tuple[str, str]  # a dataset's name, and a column


def origins(events: Iterable[dict[str, Any]]) -> dict[Column, set[str]]:
    """Return, of each column that an event has made, the datasets at its roots, as none made them.

    Through events alone, as a catalogue follows them.
    """
    made: dict[Column, set[Column]] = {}
    outputs = [output for event in events for output in event.get("outputs", ())]
    named = {output["name"] for output in outputs}
    for output in outputs:
        for column, fields in output["facets"]["columnLineage"]["fields"].items():
            above = {(each["name"], each["field"]) for each in fields["inputFields"]}
            made[output["name"], column] = above

    def roots(name: str, column: str) -> set[str]:
        if name not in named:
            return {name}
        return {found for above in made.get((name, column), ()) for found in roots(*above)}

    return {column: roots(*column) for column in made}


def _faults(place: str, part: dict[str, Any], *addresses: str | None) -> Iterator[str]:
    for address in addresses:
        if address not in _VALIDATORS:
            yield f"{place}: no schema is published as {address}"
            continue
        for error in _VALIDATORS[address].iter_errors(part):
            yield f"{place}{error.json_path[1:]}: {error.message[:200]}"


def _facets(place: str, part: object) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return every facet of an event, with its place."""
    if isinstance(part, list):
        part = {str(number): each for number, each in enumerate(part)}
    for name, each in part.items() if isinstance(part, dict) else ():
        if name in ("facets", "inputFacets", "outputFacets"):
            yield from ((f"{place}.{name}.{key}", facet) for key, facet in each.items())
        else:
            yield from _facets(f"{place}.{name}", each)


def _schema(kind: Any) -> dict[str, Any]:
    """Return the schema of a type as it stands in an annotation."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    if origin in (Union, UnionType):  # a null is not sent
        kinds = [_schema(each) for each in arguments if each is not type(None)]
        return kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    if origin is list:
        return {"type": "array", "items": _schema(arguments[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(arguments[1])}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"enum": [each.value for each in kind]}
    return {"$ref": f"#/$defs/{_name(kind)}"} if attr.has(kind) else {}


def _object(kind: type) -> dict[str, Any]:
    """Return the schema of a class's objects."""
    fields, hints = attr.fields(kind), get_type_hints(kind)
    needed = {each.name for each in fields if each.default is attr.NOTHING}
    # Where any facet may stand, the rest of it is looked at by its own schema.
    is_any_facet = kind.__module__ == BaseFacet.__module__ and issubclass(kind, BaseFacet)
    takes_more = is_any_facet or "with_additional_properties" in vars(kind)
    return {
        "type": "object",
        "properties": {
            each.name: _schema(hints[each.name])
            | ({"format": _FORMATS[each.name]} if each.name in _FORMATS else {})
            for each in fields
        },
        "required": sorted(needed | (_FILLED_IN & {each.name for each in fields})),
        "additionalProperties": takes_more,
    }


def _name(kind: type) -> str:
    return f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}"


def _validators() -> dict[str, Draft202012Validator]:
    """Return what looks at an object, by the address of its schema."""
    modules = [
        importlib.import_module(f"{generated.__name__}.{found.name}")
        for found in pkgutil.iter_modules(generated.__path__)
    ]
    kinds = [
        each
        for module in modules
        for each in vars(module).values()
        if isinstance(each, type) and attr.has(each) and each.__module__ == module.__name__
    ]
    definitions = {_name(kind): _object(kind) for kind in kinds}
    return {
        kind._get_schema(): Draft202012Validator(
            {"$ref": f"#/$defs/{_name(kind)}", "$defs": definitions}, format_checker=_CHECKER
        )
        for kind in kinds
        if hasattr(kind, "_get_schema")
    }


_VALIDATORS = _validators()
