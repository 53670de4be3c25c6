"""How the demo looks: for people at a terminal, and plainly elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from scripts.demo.failures import DemoError

_INDENT = (0, 0, 0, 2)


class Display:
    """Writes to standard output."""

    def __init__(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")
        self.console = Console(highlight=False, soft_wrap=False)
        self.errors = Console(stderr=True, highlight=False)
        self._sections = 0

    @property
    def lively(self) -> bool:
        """Whether somebody watches."""
        return self.console.is_terminal

    def title(self, title: str, text: str) -> None:
        """Begin."""
        if self.lively:
            self.console.print(
                Panel(text, title=f"[bold]{title}", title_align="left", border_style="cyan", expand=False)
            )
        else:
            self.console.print(f"{title}\n{text}", markup=False, soft_wrap=True)

    def section(self, title: str) -> None:
        """Begin the next part."""
        self._sections += 1
        heading = f"{self._sections}. {title}"
        self.console.print()
        if self.lively:
            self.console.rule(f"[bold cyan]{escape(heading)}", align="left", style="dim cyan")
        else:
            self.console.print(heading, "-" * len(heading), sep="\n", markup=False)

    def say(self, text: str) -> None:
        """Write a line with markup; broken where somebody watches, and left whole for programs."""
        if self.lively:
            self.show(text)
        else:
            self.console.print(f"  {text}", soft_wrap=True)

    def show(self, what: RenderableType) -> None:
        """Write a table, a tree, a text."""
        self.console.print(Padding(what, _INDENT, expand=False))

    def commands(self, rows: Sequence[tuple[str, str]]) -> None:
        """Write commands to copy, each after what it does; never broken into lines."""
        for purpose, command in rows:
            self.say(f"[dim]# {escape(purpose)}")
            self.console.print(f"  {command}", markup=False, soft_wrap=True)

    def good(self, text: str) -> None:
        """Say that something holds."""
        self.say(f"[green]✓[/] {text}")

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = (), title: str = ""
    ) -> None:
        """Write a table; columns in ``right`` are of numbers."""
        table = Table(
            box=box.SIMPLE_HEAD if self.lively else box.ASCII_DOUBLE_HEAD,
            title=title or None,
            title_justify="left",
            header_style="bold",
            border_style="dim",
        )
        for name in columns:
            table.add_column(name, justify="right" if name in right else "left", overflow="fold")
        for row in rows:
            table.add_row(*row)
        self.show(table)

    @contextmanager
    def progress(self, description: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show how far something is; the function given takes how many are done. Silent where nobody watches."""
        if not self.lively:
            yield lambda _: None
            return
        with Progress(
            TextColumn("  {task.description}"),
            BarColumn(style="dim", complete_style="cyan", finished_style="green"),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
        ) as bars:
            task = bars.add_task(description, total=total)
            yield lambda done: bars.update(task, completed=done)

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Show that something is under way."""
        if not self.lively:
            yield
            return
        with self.console.status(text, spinner="dots"):
            yield

    def failure(self, error: DemoError) -> None:
        """Say what went wrong, on standard error."""
        self.errors.print()
        self.errors.print(f"[bold red]The demo failed:[/] {escape(str(error))}", soft_wrap=not self.lively)
        if error.hint:
            self.errors.print(f"  {escape(error.hint)}", soft_wrap=not self.lively)
        if error.tail:
            self.errors.print(f"[dim]The end of {escape(error.log.name if error.log else 'the log')}:")
            for line in error.tail:
                self.errors.print(f"  | {line}", markup=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Write a time for people."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
