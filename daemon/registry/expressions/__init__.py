"""Query expressions: parsed to a tree of frozen values, compiled to SQL.

The language is that of the Gen3 Butler's ``where``: AND, OR, NOT, comparisons, ``IN`` with values and
ranges, bind names, ``IS NULL``, ``GLOB``, dimensions, ``element.column`` and ``timespan.begin``.
"""

from pantry.daemon.registry.expressions.compiler import compile_expression
from pantry.daemon.registry.expressions.names import Names, UnknownNameError
from pantry.daemon.registry.expressions.parser import parse

__all__ = ["Names", "UnknownNameError", "compile_expression", "parse"]
