"""Completion in IPython and Jupyter inside the calls of a Butler: ``%load_ext pantry.client``.

IPython alone completes attributes and keys; what stands in quotes it does not know. Nothing of the user's code
is run: the Butler is looked up by its name, other arguments are read as literals.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pantry.client.butler import Butler
from pantry.client.introspection.asking import Introspection

_FIRST_IS_TYPE = frozenset(
    (
        *("get", "get_dataset_type", "get_deferred", "find_dataset", "exists", "prefetch"),
        *("query_datasets", "iter_datasets", "count_datasets", "any_datasets", "query_graph"),
        *("get_metadata", "query_metadata", "record_metadata", "query_dataset_types"),
    )
)
_FIRST = {"query_dimension_records": "element", "query_data_ids": "dimensions"} | dict.fromkeys(
    _FIRST_IS_TYPE, "dataset_type"
)
_SECOND = dict.fromkeys(("query_datasets", "iter_datasets", "count_datasets", "any_datasets", "query_metadata"), "c")
_SECOND |= {"put": "dataset_type", "query_graph": "dimensions"}
_KEYS = {"collections": "c", "dataset_types": "dataset_type", "dimensions": "dimensions"}
_LISTED = {"collections": "c", "run": "c", "optional": "dataset_type", "dataset_types": "dataset_type"}
_TYPES = {"c": "collections"}
_OPEN = re.compile(r"""(?:^|[^\w])[rbuf]{0,2}('''|\"\"\"|'|")""", re.IGNORECASE)


_KEY = "[]"


class Call(NamedTuple):
    """A call that is being written, or a look-up by a key, up to the cursor.

    Attributes
    ----------
    target, method : str
        As in ``target.method(``.
    argument : str or int
        Keyword or position of the argument at the cursor; of a key, brackets.
    texts : dict
        Literal text, or list of such, of the arguments before, by keyword or position.
    begun : str or None
        The text in quotes that the cursor is in; None outside of quotes.
    word : str
        Outside of quotes, the name that is being written.
    """

    target: str
    method: str
    argument: str | int
    texts: dict[str | int, list[str]]
    begun: str | None
    word: str


def read_call(source: str) -> Call | None:
    """Find the innermost unfinished call ``name.method(...`` at the end of Python source; None if there is none."""
    tokens, begun = _tokens(source)
    depth, at = 0, len(tokens) - 1
    while at >= 0:
        text = tokens[at]
        if text in (")", "]", "}"):
            depth += 1
        elif text in ("(", "[", "{"):
            named = at >= 3 and tokens[at - 2] == "." and tokens[at - 1].isidentifier()
            if depth == 0 and named and (text == "(" or (text == "[" and tokens[at - 1] in _KEYS)):
                break
            if depth == 0 and text == "(" and at > 0 and tokens[at - 1].isidentifier():
                return None  # a call of something else
            depth -= depth > 0
        at -= 1
    if at < 0:
        return None
    target, before = tokens[at - 3], tokens[at - 4] if at >= 4 else ""
    if not target.isidentifier() or before == ".":
        return None
    if tokens[at] == "[":
        return Call(target, tokens[at - 1], _KEY, {}, begun, "") if at == len(tokens) - 1 else None
    arguments = _split(tokens[at + 1 :])
    current = arguments.pop()
    texts: dict[str | int, list[str]] = {}
    for number, argument in enumerate(arguments):
        key, value = _keyword(argument, number)
        texts[key] = _literal(value)
    key, value = _keyword(current, len(arguments))
    word = value[-1] if begun is None and value and value[-1].isidentifier() else ""
    if begun is None and value and not (len(value) == 1 and word):
        return None
    return Call(target, tokens[at - 1], key, texts, begun, word)


def _tokens(source: str) -> tuple[list[str], str | None]:
    """Split source in tokens; what stands in quotes that are still open comes second."""
    # A backslash before the cursor would be an escape of what is not there.
    for opener in reversed(list(_OPEN.finditer(source))):
        head, begun = source[: opener.start(1)], source[opener.end() :]
        if opener.group(1)[0] not in begun and "\n" not in begun and "\\" not in begun:
            known = _complete_tokens(head.rstrip("rbufRBUF") if head[-1:] in "rbufRBUF" else head)
            if known is not None:
                return known, begun
    return _complete_tokens(source) or [], None


def _complete_tokens(source: str) -> list[str] | None:
    """Tokens of source in which no quotes are open; None if some are."""
    skipped = (tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    found: list[str] = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.ERRORTOKEN and token.string in ("'", '"'):
                return None
            if token.type not in skipped:
                found.append(token.string)
    except tokenize.TokenError as exc:
        # Open brackets are what we are here for; open quotes are not.
        return None if "string" in str(exc) else found
    except (SyntaxError, IndentationError):
        return None
    return found


def _split(tokens: list[str]) -> list[list[str]]:
    arguments: list[list[str]] = [[]]
    depth = 0
    for text in tokens:
        depth += (text in ("(", "[", "{")) - (text in (")", "]", "}"))
        if text == "," and depth == 0:
            arguments.append([])
        else:
            arguments[-1].append(text)
    return arguments


def _keyword(argument: list[str], number: int) -> tuple[str | int, list[str]]:
    if len(argument) >= 2 and argument[1] == "=" and argument[0].isidentifier():
        return argument[0], argument[2:]
    return number, argument


def _literal(tokens: list[str]) -> list[str]:
    try:
        value = ast.literal_eval(" ".join(tokens))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    if isinstance(value, str):
        return [value]
    return [one for one in value if isinstance(one, str)] if isinstance(value, list | tuple | set) else []


class Candidates(NamedTuple):
    """What may replace the last ``replaced`` characters before the cursor; in quotes, nothing else may."""

    replaced: int
    texts: list[str]
    in_quotes: bool = True


def candidates(source: str, names: Mapping[str, Any]) -> Candidates | None:
    """Give what can stand at the end of Python source; None if that is no call of a Butler.

    Parameters
    ----------
    source : str
        Up to the cursor.
    names : Mapping
        The user's variables.
    """
    # Above may stand what is no Python, as a line for the shell.
    call = read_call(source) or read_call(source.rpartition("\n")[2])
    butler = None if call is None else names.get(call.target)
    if call is None or not isinstance(butler, Butler):
        return None
    known = butler._introspection
    first = 1 if call.method == "put" else 0
    types = [*call.texts.get(first, ()), *call.texts.get("dataset_type", ()), *call.texts.get("dataset_types", ())]
    if call.begun is None:
        return _keywords(call, known, types)
    begun = call.begun
    what = _meaning(call)
    if what == "where":
        found = known.expression(begun, None, types)
        return Candidates(len(begun) - found.start, found.candidates)
    asks: dict[str, Callable[[], list[str]]] = {
        "dataset_type": known.dataset_types,
        "collections": known.collections,
        "element": known.elements,
        "dimensions": known.dimensions,
    }
    if what in asks:
        return Candidates(len(begun), [name for name in asks[what]() if name.startswith(begun)])
    if what == "order_by":
        sign = "-" if begun.startswith("-") else ""
        return Candidates(len(begun), [sign + name for name in known.names(begun.removeprefix("-"), types)])
    values = known.values(str(call.argument), begun) if isinstance(call.argument, str) else []
    return Candidates(len(begun), [text for text in map(str, values) if text.startswith(begun)])


def _meaning(call: Call) -> str:
    if call.argument == 0:
        kind = _FIRST.get(call.method, "")
    elif call.argument == _KEY:
        kind = _KEYS[call.method]
    elif call.argument == 1:
        kind = _SECOND.get(call.method, "")
    else:
        kind = _LISTED.get(str(call.argument), str(call.argument))
    return _TYPES.get(kind, kind)


def _keywords(call: Call, known: Introspection, types: list[str]) -> Candidates | None:
    """Dimensions as keywords of a data id, beside the keywords that IPython knows of."""
    place = 1 if call.method == "put" else 0 if call.method in _FIRST_IS_TYPE else None
    if place is None or not isinstance(call.argument, int) or call.argument <= place:
        return None
    near = known.dimensions_of(types)
    found = [f"{name}=" for name in near if name.startswith(call.word) and name not in call.texts]
    return Candidates(len(call.word), found, in_quotes=False)


def register(shell: Any) -> None:
    """Let an IPython shell complete in the calls of Butlers; undone by `unregister`."""
    from IPython.core.completer import SimpleCompletion, context_matcher

    @context_matcher()  # type: ignore[untyped-decorator]
    def pantry_matcher(context: Any) -> dict[str, Any]:
        *above, line = context.full_text.split("\n")[: context.cursor_line + 1]
        source = "\n".join([*above, line[: context.cursor_position]])
        try:
            found = candidates(source, shell.user_ns)
        except Exception:
            found = None
        if found is None:
            return {"completions": []}
        return {
            "completions": [SimpleCompletion(text=text, type="pantry") for text in found.texts],
            "matched_fragment": source[len(source) - found.replaced :],
            "suppress": found.in_quotes and bool(found.texts),
            "ordered": True,
        }

    unregister(shell)
    pantry_matcher.matcher_identifier = _IDENTIFIER
    shell.Completer.custom_matchers.insert(0, pantry_matcher)


_IDENTIFIER = "pantry"


def unregister(shell: Any) -> None:
    """Undo `register`."""
    matchers = shell.Completer.custom_matchers
    matchers[:] = [one for one in matchers if getattr(one, "matcher_identifier", "") != _IDENTIFIER]
