"""A discovery graph in the language of Graphviz."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pantry.model.datasets import DatasetRef

if TYPE_CHECKING:
    from pantry.client.butler.graph import DiscoveryGraph, Node


def lines(graph: DiscoveryGraph) -> Iterator[str]:
    """Write a graph line by line: data units as ellipses, datasets as boxes."""
    yield "graph discovery {"
    yield "  rankdir=LR"
    numbers: dict[Node, int] = {}
    for node in graph.nodes():
        if node not in numbers:
            numbers[node] = len(numbers)
            shape = "box" if isinstance(node, DatasetRef) else "ellipse"
            yield f"  n{numbers[node]} [shape={shape}, label={_quoted(_label(node))}]"
    for one, other in graph.edges():
        yield f"  n{numbers[one]} -- n{numbers[other]}"
    yield "}"


def _label(node: Node) -> str:
    data_id = node.data_id.required if isinstance(node, DatasetRef) else dict(node.items())
    text = "\n".join(f"{name}={value}" for name, value in data_id.items())
    return f"{node.dataset_type.name}\n{text}\n{node.run}" if isinstance(node, DatasetRef) else text


def _quoted(text: str) -> str:
    # Backslashes would begin escapes of Graphviz's own.
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{"".join(char if char.isprintable() else "?" for char in escaped)}"'
