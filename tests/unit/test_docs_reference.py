"""The reference pages have every error, command, operation and storage class, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.docs import cli_page
from tests.docs.tables import DOCS, ROOT, code, rows, section

from pantry.client.formatters import BUILTIN_FORMATTERS
from pantry.errors import BY_CODE
from pantry.model.builtin_formats import BUILTIN_FORMATS
from pantry.model.storage import STORAGE_CLASSES
from pantry.wire import envelope, framing, operations
from pantry.wire.operations.base import StreamOperation, concrete_operations

REFERENCE = DOCS / "reference"


def test_every_error_is_documented() -> None:
    page = rows((REFERENCE / "errors.md").read_text(), header="code")
    documented = {code(row[0]): row[1].replace("–", "").strip().strip("`") for row in page}
    assert documented == {name: kind.__name__ for name, kind in BY_CODE.items()}
    assert all(row[2] and row[3] for row in page)


def test_errors_are_indented_like_the_tree() -> None:
    for row in rows((REFERENCE / "errors.md").read_text(), header="code"):
        depth = len(BY_CODE[code(row[0])].__mro__) - len(BY_CODE["error"].__mro__)
        assert row[1].count("–") == max(0, depth - 1), row[1]


def test_every_operation_is_documented() -> None:
    documented = {
        code(row[0]): (row[1], *re.findall(r"`(\w+)`", row[3]))
        for row in rows((REFERENCE / "wire.md").read_text(), header="op")
    }
    known = {
        str(kind.__struct_config__.tag): (
            "stream" if issubclass(kind, StreamOperation) else "one",
            kind.__name__,
            kind.result_type.__name__,
        )
        for kind in concrete_operations()
        if hasattr(kind, "result_type") and hasattr(operations, kind.__name__)  # not bases, nor those of tests
    }
    assert documented == known


def test_every_message_is_documented_with_its_fields() -> None:
    documented = {
        code(row[0]): (row[1], tuple(re.findall(r"`(\w+)`", row[2])))
        for row in rows((REFERENCE / "wire.md").read_text(), header="message")
    }
    known = {
        str(kind.__struct_config__.tag): (side, kind.__struct_fields__)
        for side, union in (("client", envelope.FromClient), ("daemon", envelope.FromDaemon))
        for kind in union.__args__
    }
    assert documented == known


def test_the_limits_on_the_wire_are_those_of_the_code() -> None:
    page = (REFERENCE / "wire.md").read_text()
    assert f"at most {framing.MAX_FRAME_BYTES >> 20} MiB" in page
    assert f"at most {framing.MAX_FRAME_FDS} |" in page
    assert f"At most {envelope.MAX_REQUESTS} requests" in page
    assert f"at most {envelope.STREAM_WINDOW} batches" in page
    assert f"Protocol version: {envelope.PROTOCOL_VERSIONS[-1]}." in page


def test_every_storage_class_is_documented() -> None:
    documented = [
        tuple(code(cell) for cell in row)
        for row in rows((REFERENCE / "storage-classes.md").read_text(), header="storage class")
    ]
    assert documented == [(one.name, one.python_type, one.formatter, one.extension) for one in STORAGE_CLASSES.values()]


def test_every_formatter_is_documented_with_what_it_reads() -> None:
    from pantry.client.formatters import ReadSource, formatter_by_name
    from pantry.errors import FormatterError

    page = rows((REFERENCE / "storage-classes.md").read_text(), header="formatter")
    assert {code(row[0]) for row in page} == BUILTIN_FORMATTERS.keys()
    source = ReadSource(name="x", size_bytes=0, path="/dev/null")
    for row in page:
        formatter = formatter_by_name(code(row[0]))
        for asked, cell in (
            ({"component": "no", "parameters": {}}, 2),
            ({"component": None, "parameters": {"no": 1}}, 1),
        ):
            with pytest.raises(FormatterError) as caught:
                formatter.read(source, **asked)
            known = caught.value.hint.partition(": ")[2]
            assert known == (row[cell].replace("`", "") or "none"), row[0]


def test_every_format_is_documented_with_its_options() -> None:
    page = (REFERENCE / "storage-classes.md").read_text()
    table = rows(section(page, "## Formats by configuration"), header="written by")
    assert [code(row[0]) for row in table] == list(BUILTIN_FORMATS)
    for row in table:
        known = BUILTIN_FORMATS[code(row[0])]
        assert row[1].replace("`", "") == (", ".join(known.extensions) or "any")
        options = [field.name for field in msgspec.structs.fields(known.options)]
        assert row[2].replace("`", "") == ", ".join(options)


def test_the_command_line_is_documented_as_it_is() -> None:
    assert cli_page.PAGE.read_text() == cli_page.page(), "out of date: run `python -m tests.docs.cli_page --write`"


def test_every_command_is_documented() -> None:
    from pantry.client.cli.main import cli

    headings = re.findall(r"^## `(\w[^`]*)`$", cli_page.PAGE.read_text(), re.M)
    assert headings == ["pantry", *(name for name, _ in cli_page.commands(cli)), "pantryd"]


def test_every_command_has_a_help_and_an_example() -> None:
    from pantry.client.cli.main import cli

    for name, command in cli_page.commands(cli):
        assert "example" in (command.help or "").lower(), name


def mentioned_commands() -> Iterator[tuple[Path, str]]:
    """Commands that pages and messages name in backquotes or in examples."""
    pages = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
    for page in pages:
        text = page.read_text()
        for found in re.findall(r"(?:`|^\$ |^)pantry ((?:[a-z][a-z-]*(?: |`|$)){1,2})", text, re.M):
            yield page, found.rstrip("` ")


def test_commands_that_pages_name_exist() -> None:
    from pantry.client.cli.main import cli

    known = {name.removeprefix("pantry ") for name, _ in cli_page.commands(cli)}
    groups = {name.split(" ")[0] for name in known}
    wrong = [
        (page.name, found)
        for page, found in mentioned_commands()
        if found not in known and found.split(" ")[0] not in known and found not in groups
    ]
    assert not wrong
