"""What our commands have beyond click's: examples in their help, and import when they run."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any, cast

import click

_EXAMPLE = re.compile(r"^(?=(For example|Begin with).*:$)", re.MULTILINE)


def _with_examples(help_text: str | None) -> str | None:
    """Mark the paragraphs of examples, which click must not fill."""
    return help_text and _EXAMPLE.sub("\b\n", inspect.cleandoc(help_text))


class Command(click.Command):
    """A command whose docstring may end with "For example:" and lines to be left as they are."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "help": _with_examples(kwargs.get("help"))})


class CommandGroup(click.Group):
    """A group of such commands."""

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "help": _with_examples(kwargs.get("help"))})


class LazyGroup(CommandGroup):
    """A group that knows names and short helps of its commands, so that ``--help`` imports none.

    Parameters
    ----------
    where : str
        Package of the modules.
    lazy : Mapping
        Short help and place (``module:attribute``) by name.
    """

    def __init__(self, *args: Any, where: str, lazy: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._where = where
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in self._lazy:
            return None
        module, _, attribute = self._lazy[cmd_name][0].partition(":")
        return cast(click.Command, getattr(import_module(f"{self._where}.{module}"), attribute))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands for ``--help``."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._lazy[name][1]) for name in sorted(self._lazy)])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Complete the name of a command."""
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=self._lazy[name][1]) for name in sorted(self._lazy) if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]
