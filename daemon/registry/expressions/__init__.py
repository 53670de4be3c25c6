"""Query expressions: parsed to a tree of frozen values, compiled to SQL.

The language is that of the Gen3 Butler's ``where``: AND, OR, NOT, comparisons, ``IN`` with values and
ranges, bind names, ``IS NULL``, ``GLOB``, dimensions, ``element.column``, time spans and regions of the sky.
"""

from pantry.daemon.registry.expressions.compiler import compile_expression
from pantry.daemon.registry.expressions.names import Names, UnknownNameError
from pantry.daemon.registry.expressions.nodes import Node
from pantry.daemon.registry.expressions.parser import invalid, parse
from pantry.daemon.registry.expressions.references import conjuncts, dimension_of, elements_in, names_in, sky_joins

__all__ = [
    "Names",
    "Node",
    "UnknownNameError",
    "compile_expression",
    "conjuncts",
    "dimension_of",
    "elements_in",
    "invalid",
    "names_in",
    "parse",
    "sky_joins",
]
