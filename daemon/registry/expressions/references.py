"""What an expression speaks of, found in its tree before it is compiled."""

from __future__ import annotations

from collections.abc import Container, Iterator

from pantry.daemon.registry.expressions import nodes
from pantry.model.dimensions import DimensionUniverse


def conjuncts(tree: nodes.Node | None) -> tuple[nodes.Node, ...]:
    """Give the conditions that all must hold."""
    if tree is None:
        return ()
    if isinstance(tree, nodes.And):
        return tuple(one for part in tree.parts for one in conjuncts(part))
    return (tree,)


def names_in(node: nodes.Node, bind: Container[str]) -> Iterator[nodes.Name]:
    """Give the names in a part of an expression that are not those of bind values."""
    todo: list[object] = [node]
    while todo:
        part = todo.pop()
        match part:
            case nodes.Name(text) as part:
                if text not in bind:
                    yield part
            case tuple():
                todo += part
            case nodes.Bind() | nodes.Constant() | nodes.Range():
                pass
            case _ if hasattr(part, "__struct_fields__"):
                todo += [getattr(part, name) for name in part.__struct_fields__]


def dimension_of(universe: DimensionUniverse, text: str) -> str:
    """Return the dimension that a name such as ``visit.physical_filter`` stands for; else its first part."""
    first, _, rest = text.partition(".")
    element = universe.elements.get(first)
    if element is None or not rest or rest == first:
        return first
    return rest if rest in (*universe.required(first), *element.implies) else first


def elements_in(node: nodes.Node, universe: DimensionUniverse, bind: Container[str]) -> dict[str, int]:
    """Give the elements that a part of an expression names, as ``visit`` or ``visit.seq_num``, and where first."""
    found: dict[str, int] = {}
    for name in names_in(node, bind):
        first = dimension_of(universe, name.text)
        if first in universe.elements:
            found[first] = min(name.at, found.get(first, name.at))
    return found


def sky_joins(tree: nodes.Node | None, bind: Container[str]) -> list[tuple[str, str]]:
    """Give the pairs of elements whose regions an expression compares, where both are names."""
    found = []
    todo = [] if tree is None else [tree]
    while todo:
        match todo.pop():
            case nodes.And(parts) | nodes.Or(parts):
                todo += parts
            case nodes.Not(part):
                todo.append(part)
            case nodes.Overlaps(nodes.Name(one), nodes.Name(other)):
                both = [text.removesuffix(".region") for text in (one, other) if text not in bind]
                if len(both) == 2 and one.endswith(".region") and other.endswith(".region"):
                    found.append((both[0], both[1]))
    return found
