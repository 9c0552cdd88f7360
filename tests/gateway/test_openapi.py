"""The API describes itself: validly, completely, and browsable without anybody else's servers."""

import re

import msgspec
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway.application import SURFACES
from gateway.describe import operation_of
from tests.gateway.house import Client


async def test_the_document_is_valid_openapi(http: Client) -> None:
    document = await (await http.get("/openapi.json")).json()
    assert document["openapi"] == "3.1.0"
    OpenAPIV31SpecValidator(document).validate()


async def test_every_route_of_the_canonical_api_is_described(http: Client) -> None:
    document = await (await http.get("/openapi.json")).json()
    for surface in SURFACES:
        for route in surface.routes:
            assert operation_of(route.handler).summary, route
            if route.path.startswith("/api/v1/"):
                assert route.method.lower() in document["paths"][route.path]


async def test_what_the_gateway_fills_in_is_not_asked_for(http: Client) -> None:
    schemas = (await (await http.get("/openapi.json")).json())["components"]["schemas"]
    given = schemas["RegisterImageGiven"]
    assert not {"image_id", "owner", "at_ms", "type"} & set(given["properties"])
    assert given["required"] == ["name", "tag", "source"]
    assert given["properties"]["port"]["maximum"] == 65535
    assert r"\Z" not in msgspec.json.encode(schemas).decode()


async def test_operations_have_names_of_their_own(http: Client) -> None:
    document = await (await http.get("/openapi.json")).json()
    names = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert len(set(names)) == len(names)


async def test_what_needs_a_token_says_so_and_does(http: Client) -> None:
    document = await (await http.get("/openapi.json")).json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            there = re.sub(r"\{\w+\}", "x", path)
            status = (await http.request(method, there)).status
            assert (status == 401) == ("security" in operation), (method, path, status)


async def test_the_documentation_page_needs_no_other_server(http: Client) -> None:
    page = await http.get("/docs")
    text = await page.text()
    links = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert len(links) == 4
    for link in links:
        assert link.startswith("/docs/")
        assert (await http.get(link)).status == 200, link
    assert (
        "unsafe-inline"
        not in page.headers["Content-Security-Policy"].split("script-src")[-1].split("style-src")[0]
    )
    assert (await http.get("/docs/swagger-editor.css")).status == 404
