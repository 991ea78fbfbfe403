"""A validator of the part of JSON Schema that metrics.schema.json is written in; anything else in a schema is an error."""

from __future__ import annotations

from typing import Any

KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}
KNOWN = {
    "$schema", "$defs", "title", "description", "$ref", "anyOf", "const", "enum", "type", "minimum", "maximum", "items",
    "properties", "required", "additionalProperties",
}  # fmt: skip


def errors(value: Any, schema: dict[str, Any], root: dict[str, Any], at: str = "$") -> list[str]:
    """What of a value does not fit, each with its place; empty if all does."""
    assert set(schema) <= KNOWN, f"{at}: {set(schema) - KNOWN}"
    found: list[str] = []
    if "$ref" in schema:
        found += errors(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, at)
    if "anyOf" in schema:
        tried = [errors(value, one, root, at) for one in schema["anyOf"]]
        found += [] if any(not one for one in tried) else min(tried, key=len)
    if "const" in schema and value != schema["const"]:
        found.append(f"{at}: {value!r} is not {schema['const']!r}")
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{at}: {value!r} is none of {schema['enum']}")
    if "type" in schema:
        kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        fits = any(isinstance(value, KINDS[kind]) for kind in kinds)
        if not fits or (isinstance(value, bool) and "boolean" not in kinds):
            return [*found, f"{at}: {value!r} is no {' or '.join(kinds)}"]
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if numeric and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        found.append(f"{at}: {value} is out of range")
    if isinstance(value, list) and "items" in schema:
        for place, item in enumerate(value):
            found += errors(item, schema["items"], root, f"{at}[{place}]")
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        found += [f"{at}: {name} is missing" for name in schema.get("required", ()) if name not in value]
        for name, inner in value.items():
            if name in properties:
                found += errors(inner, properties[name], root, f"{at}.{name}")
            elif schema.get("additionalProperties") is False:
                found.append(f"{at}: {name} is not foreseen")
    return found
