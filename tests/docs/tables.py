"""Markdown tables of the documentation, as rows of cells."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

Row = tuple[str, ...]


def section(text: str, heading: str) -> str:
    """Text between a heading and the next one of its level or above."""
    level = heading.split(" ", 1)[0]
    lines = text.splitlines()
    begin = lines.index(heading) + 1
    for end in range(begin, len(lines)):
        mark = lines[end].split(" ", 1)[0]
        if mark and not mark.strip("#") and len(mark) <= len(level):
            return "\n".join(lines[begin:end])
    return "\n".join(lines[begin:])


def rows(text: str, *, header: str) -> list[Row]:
    """Rows of all tables whose first column is headed ``header``, cells without their spaces."""
    found: list[Row] = []
    inside = False
    for line in text.splitlines():
        if not line.startswith("|"):
            inside = False
            continue
        cells = tuple(cell.strip() for cell in line.strip().strip("|").split("|"))
        if cells[0] == header:
            inside = True
        elif inside and set(cells[0]) != {"-"}:
            found.append(cells)
    return found


def code(cell: str) -> str:
    """Content of a cell that is one piece of code, else the empty string."""
    return cell[1:-1] if len(cell) > 2 and cell[0] == cell[-1] == "`" and cell.count("`") == 2 else ""
