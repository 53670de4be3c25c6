"""The reference of the command line: ``python -m tests.docs.cli_page [--write]``.

Made from the commands themselves, so that it cannot say anything else than ``--help`` does.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Iterator

import click
from tests.docs.tables import DOCS, ROOT

PAGE = DOCS / "reference" / "cli.md"

_HEAD = """\
# Command line

Generated from the commands by `python -m tests.docs.cli_page --write`; a test fails while this page is out of date.

`pantry` is for people and scripts, `pantryd` is the daemon. Commands of `pantry` talk to the daemon; one of the user's
own is started if none runs (`status` and completion start none). Answers go to standard output, everything else to
standard error.

- `--json`: one JSON document in place of a table.
- Tables are drawn on a terminal, and are plain columns elsewhere.
- Exit status: 0, 1 after an error, 2 after wrong usage, 130 after Ctrl-C, 141 if whoever read the output has gone.
- An [error](errors.md) is one line, and one line with a hint. No traceback, unless `--verbose` is given.
- A data id is written `name=value`, each as an argument of its own; in queries with `-d`.
- Names of collections may be given several times or separated by commas; patterns such as `'*'` need quotes.
"""


def commands(command: click.Command, path: str = "pantry") -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with its full name."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        if child is not None and not child.hidden:
            yield from commands(child, f"{path} {name}")


def paragraphs(text: str) -> list[str]:
    r"""Help text as Markdown: paragraphs that click keeps as they are (``\b``) become code."""
    made = []
    for part in inspect.cleandoc(text).split("\n\n"):
        lines = part.splitlines()
        if lines[0].strip() == "\b":
            made.append("\n".join([lines[1], "", "```sh", *inspect.cleandoc("\n".join(lines[2:])).splitlines(), "```"]))
        else:
            made.append(_escape(" ".join(line.strip() for line in lines)))
    return made


def _escape(text: str) -> str:
    return re.sub(r"<(\w[\w ]*)>", r"`<\1>`", text).replace("|", "\\|")


def _option(option: click.Option, context: click.Context) -> tuple[str, str]:
    names = ", ".join(option.opts)
    if not option.is_flag:
        names += f" {option.metavar or option.make_metavar(context)}"
    notes = [option.help or ""]
    if option.required:
        notes.append("Required.")
    elif option.show_default and option.default not in (None, ""):
        notes.append(f"Default: `{option.default}`.")
    return f"`{names}`".replace("|", "\\|"), _escape(" ".join(note for note in notes if note))


def command_section(name: str, command: click.Command) -> list[str]:
    """Write one command."""
    context = click.Context(command, info_name=name)
    usage = " ".join(piece for piece in command.collect_usage_pieces(context))
    lines = [f"## `{name}`", "", "```text", f"{name} {usage}".rstrip(), "```", ""]
    for part in paragraphs(command.help or ""):
        lines += [part, ""]
    options = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
    if options:
        lines += ["| option | |", "|---|---|"]
        lines += [f"| {left} | {right} |" for left, right in (_option(one, context) for one in options)]
        lines.append("")
    if command.epilog:
        lines += [_escape(command.epilog), ""]
    return lines


def daemon_section() -> list[str]:
    """Write the daemon's options."""
    from pantry.daemon.main import _parser

    lines = ["## `pantryd`", "", "```text", "pantryd [OPTIONS]", "```", ""]
    lines += ["Runs the daemon in the foreground, with its log on standard error, until SIGTERM or SIGINT.", ""]
    lines += ["See [configuration](configuration.md).", "", "| option | |", "|---|---|"]
    for action in _parser()._actions:
        if action.option_strings[-1] != "--help":
            names = ", ".join(action.option_strings) + (f" {action.metavar}" if action.metavar else "")
            lines.append(f"| `{names}` | {(action.help or '').replace('%(default)s', str(action.default))} |")
    return [*lines, ""]


def page() -> str:
    """Write the page."""
    from pantry.client.cli.main import cli

    lines = [_HEAD]
    lines += [
        "## `pantry`",
        "",
        "```text",
        "pantry [OPTIONS] COMMAND [ARGS]...",
        "```",
        "",
        "| option | |",
        "|---|---|",
    ]
    context = click.Context(cli, info_name="pantry", **cli.context_settings)
    for option in cli.get_params(context):
        if isinstance(option, click.Option):
            left, right = _option(option, context)
            lines.append(f"| {left} | {right} |")
    lines.append("")
    for name, command in commands(cli):
        lines += command_section(name, command)
    lines += daemon_section()
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    """Print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    if parser.parse_args().write:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        sys.stdout.write(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
