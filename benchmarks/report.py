"""The table for people and the file for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.rows import Row, figure


def write_json(rows: Sequence[Row], path: Path) -> None:
    """Write the rows as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([row.to_json() for row in rows], indent=1) + "\n")


def print_table(rows: Sequence[Row], console: Console) -> None:
    """Print the rows, then in words what was compared."""
    table = Table(title="Pantry and its peers", caption="ratio = ours / peer", title_justify="left")
    table.add_column("measured")
    for heading in ("ours", "peer"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    for heading in ("ratio", "goal"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in rows:
        table.add_row(
            row.name, figure(row.ours), figure(row.peer), row.unit, figure(row.ratio), row.goal, _verdict(row)
        )
    console.print(table)
    for row in rows:
        console.print(f"[bold]{row.name}[/bold]: {row.compared}", highlight=False, soft_wrap=True)


def _verdict(row: Row) -> str:
    if row.met is None:
        return "" if row.ours is not None else "[yellow]not measured[/yellow]"
    return "[green]met[/green]" if row.met else "[red]missed[/red]"
