"""Where parameters stand in a statement: the tokenizer against texts built of known parts."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantry.backends.placeholders import joined, names_of, split_statement
from pantry.errors import InvalidQueryError

_names = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,8}", fullmatch=True)
_anything = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=20)
_hidden = st.one_of(
    _anything.map(lambda text: "'" + text.replace("'", "''") + "'"),
    _anything.map(lambda text: '"' + text.replace('"', '""') + '"'),
    _anything.map(lambda text: "--" + text.replace("\n", " ").replace("\r", " ") + "\n"),
    _anything.map(lambda text: "/*" + text.replace("*/", "").replace("/*", "").strip("*/") + "*/"),
    st.sampled_from(["SELECT", "a.b", "x::text", "(", ")", ",", "=", "<=", "3.5e-3", "é"]),
)


@given(st.lists(st.one_of(_hidden.map(lambda text: (text, "")), _names.map(lambda name: ("", name)))))
def test_parameters_are_found_and_nothing_else_is(parts: list[tuple[str, str]]) -> None:
    text = " ".join(hidden or f":{name}" for hidden, name in parts)
    pieces = split_statement(text)
    assert joined(pieces) == text
    assert names_of(pieces, "parameter") == list(dict.fromkeys(name for _, name in parts if name))
    assert not names_of(pieces, "selection")


@given(_anything)
def test_any_text_is_taken_apart_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidQueryError):
        assert joined(split_statement(text)) == text


@pytest.mark.parametrize(
    "text",
    ["'a", '"a', "/* a", "'a'' :b", "E'a\\' :b '", "e'a'", "$$ :a $$", "$x$ a $x$", "U&'a'", "/* /* */ :a */", "a\0b"],
)  # fmt: skip
def test_what_cannot_be_understood_for_certain_is_refused(text: str) -> None:
    with pytest.raises(InvalidQueryError):
        split_statement(f"SELECT {text}")


def test_selections_and_casts() -> None:
    pieces = split_statement("SELECT x::int FROM @bright WHERE m < :m AND t = '@x :y' -- :z @w")
    assert names_of(pieces, "selection") == ["bright"]
    assert names_of(pieces, "parameter") == ["m"]
