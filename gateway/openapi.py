"""The canonical API as OpenAPI 3.1, derived from the routes and the messages they take and give."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from gateway.describe import Operation, operation_of

_PLACEHOLDER = re.compile(r"\{(\w+)(?::[^{}]*)?\}")
_REF = "#/components/schemas/{name}"
_DETAIL = {
    "type": "object",
    "required": ["detail"],
    "properties": {
        "detail": {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["loc", "msg", "type"],
                        "properties": {
                            "loc": {"type": "array", "items": {"type": ["string", "integer"]}},
                            "msg": {"type": "string"},
                            "type": {"type": "string"},
                        },
                    },
                },
            ]
        }
    },
}
_FORM = {
    "type": "object",
    "required": ["file", "name"],
    "properties": {
        "file": {
            "type": "string",
            "format": "binary",
            "description": "tar, tar.gz or zip, or a docker save tar",
        },
        **{name: {"type": "string"} for name in ("name", "tag", "hostname", "cpu_limit", "memory_limit")},
        **{name: {"type": "integer"} for name in ("port", "min_instances", "max_instances")},
    },
}


def document(routes: Iterable[web.RouteDef], title: str, version: str) -> dict[str, Any]:
    """Every described route under /api/v1, and everything it refers to."""
    described = [
        (route, operation)
        for route in routes
        if (operation := operation_of(route.handler)).summary and route.path.startswith("/api/v1/")
    ]
    kinds = [kind for _, one in described for kind in (one.body, one.answer, one.plan) if kind is not None]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    given = {id(kind): schema for kind, schema in zip(kinds, schemas, strict=True)}
    components = {name: _portable(schema) for name, schema in components.items()} | {"Refusal": _DETAIL}
    paths: dict[str, dict[str, Any]] = {}
    for route, operation in described:
        if operation.filled:
            name = operation.body.__name__
            components[f"{name}Given"] = _without(components[name], operation.filled)
        path = _PLACEHOLDER.sub(r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, operation, given)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: web.RouteDef, operation: Operation, given: dict[int, Any]) -> dict[str, Any]:
    name = f"{route.handler.__module__.rpartition('.')[2]}_{route.handler.__name__}"
    content = {} if operation.answer is None else {operation.media: {"schema": given[id(operation.answer)]}}
    if operation.plan is not None and operation.status == 200:
        either = [given[id(operation.answer)], given[id(operation.plan)]]
        content = {operation.media: {"schema": {"anyOf": either}}}
    errors = {*operation.errors, 503}
    if operation.access != "public":
        errors.add(401)
    if operation.access == "operator":
        errors.add(403)
    if operation.body is not None or operation.query:
        errors.add(422)
    refusal = {"application/json": {"schema": {"$ref": _REF.format(name="Refusal")}}}
    described: dict[str, Any] = {
        "operationId": name,
        "summary": operation.summary,
        "tags": [route.path.split("/")[3]],
        "parameters": _parameters(route, operation),
        "responses": {
            **_planned(operation, given),
            str(operation.status): {"description": "As asked.", "content": content},
            **{
                str(status): {"description": HTTPStatus(status).phrase, "content": refusal}
                for status in sorted(errors)
            },
        },
    }
    if operation.access != "public":
        described["security"] = [{"bearer": []}]
    if operation.body is not None:
        schema = given[id(operation.body)]
        if operation.filled:
            schema = {"$ref": _REF.format(name=f"{operation.body.__name__}Given")}
        body = {"application/json": {"schema": schema}}
        if operation.multipart:
            body["multipart/form-data"] = {"schema": _FORM}
        described["requestBody"] = {"required": True, "content": body}
    return described


def _planned(operation: Operation, given: dict[int, Any]) -> dict[str, Any]:
    if operation.plan is None:
        return {}
    content = {"application/json": {"schema": given[id(operation.plan)]}}
    return {"200": {"description": "What it would come to.", "content": content}}


def _parameters(route: web.RouteDef, operation: Operation) -> list[dict[str, Any]]:
    path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PLACEHOLDER.findall(route.path)
    ]
    query = [
        {"name": one.name, "in": "query", "description": one.about, "schema": msgspec.json.schema(one.kind)}
        for one in operation.query
    ]
    return path + query


def _without(schema: dict[str, Any], filled: tuple[str, ...]) -> dict[str, Any]:
    """A command's schema as clients see it: what the gateway fills in is not theirs to say."""
    hidden = {"type", *filled}
    return {
        **schema,
        "properties": {name: one for name, one in schema["properties"].items() if name not in hidden},
        "required": [name for name in schema.get("required", ()) if name not in hidden],
    }


def _portable(schema: Any) -> Any:
    """The same schema with patterns as everybody writes them: \\Z is Python's own."""
    match schema:
        case {"pattern": str(pattern), **rest}:
            return {**_portable(rest), "pattern": pattern.replace(r"\Z", "$")}
        case dict():
            return {key: _portable(value) for key, value in schema.items()}
        case list():
            return [_portable(one) for one in schema]
        case _:
            return schema
