"""Runs in the virtual environment of ``vos``, not in ours: does what it reads, line by line, with that client."""

from __future__ import annotations

import base64
import json
import logging
import os
import sys
from typing import Any

import vos

CLIENTS: dict[str, Any] = {}


def describe(node: Any) -> dict[str, Any]:
    return {"type": node.type, "uri": node.uri, "name": node.name, "target": node.target, "properties": node.props}


def log_in(name: str, certificate: str | None, token: str | None) -> None:
    """None for both: by the user name and password of .netrc; an empty certificate: anonymous."""
    CLIENTS[name] = vos.Client(vospace_certfile=certificate, vospace_token=token, insecure=True)


def get_node(client: Any, uri: str) -> dict[str, Any]:
    return describe(client.get_node(uri, force=True))


def children(client: Any, uri: str, limit: int | None) -> list[str]:
    """By pages of ``limit``; the client gives the first page once more where it has it from the node itself."""
    node = client.get_node(uri, limit=0, force=True)
    return [child.name for child in node.get_children(client, None, None, limit)]


def read(client: Any, uri: str, byte_range: str | None) -> str:
    opened = client.open(uri, os.O_RDONLY, view="data", byte_range=byte_range)
    return base64.b64encode(opened.read()).decode()


def set_properties(client: Any, uri: str, changes: dict[str, str | None], recursive: bool) -> list[Any]:
    node = client.get_node(uri, force=True)
    if recursive:
        node = vos.Node(node.uri, node_type=node.type, properties=changes)
    for key, value in changes.items():
        node.change_prop(key, value)
    return list(client.update(node, recursive))


def add_properties(client: Any, uri: str, changes: dict[str, str | None]) -> None:
    node = client.get_node(uri, force=True)
    node.props.update(changes)
    client.add_props(node)


OPERATIONS = {
    "get_node": get_node,
    "children": children,
    "read": read,
    "set_properties": set_properties,
    "add_properties": add_properties,
}


def perform(line: dict[str, Any]) -> Any:
    if line["call"] == "log_in":
        return log_in(*line["arguments"])
    client = CLIENTS[line["who"]]
    for endpoints in client._endpoints.values():
        # The client keeps the latest log-in for all; it moves bytes in that name.
        type(endpoints).subject = endpoints.conn.subject
    operation = OPERATIONS.get(line["call"])
    if operation is not None:
        return operation(client, *line["arguments"])
    value = getattr(client, line["call"])(*line["arguments"])
    return describe(value) if isinstance(value, vos.Node) else value


def main() -> None:
    logging.disable(logging.WARNING)
    answers, sys.stdout = sys.stdout, sys.stderr
    for text in sys.stdin:
        try:
            answer = {"value": perform(json.loads(text))}
        except Exception as exc:
            answer = {"error": type(exc).__name__, "text": str(exc)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
