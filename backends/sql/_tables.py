"""The tables of objects and of their pieces."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

PIECE_BYTES = 1 << 20

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
"""Compared byte by byte, as SQLite does."""


class Tables(NamedTuple):
    """Both, in one schema.

    Attributes
    ----------
    objects : sa.Table
        One row an object.
    pieces : sa.Table
        Its content, in pieces of `PIECE_BYTES`; they go with it.
    """

    objects: sa.Table
    pieces: sa.Table

    @classmethod
    def of(cls, schema: str | None) -> Tables:
        """Describe them, in this schema or the connection's own."""
        metadata = sa.MetaData(schema=schema)
        objects = sa.Table(
            "pantry_object",
            metadata,
            sa.Column("number", _NUMBER, sa.Identity(), primary_key=True),
            sa.Column("key", _KEY, nullable=False, unique=True),
            sa.Column("size_bytes", sa.BigInteger, nullable=False),
            sa.Column("version", sa.Text, nullable=False),
            sa.Column("modified_ns", sa.BigInteger, nullable=False),
            sa.Column("token", sa.Text),
            sqlite_autoincrement=True,
        )
        pieces = sa.Table(
            "pantry_piece",
            metadata,
            sa.Column("object", _NUMBER, sa.ForeignKey(objects.c.number, ondelete="CASCADE"), primary_key=True),
            sa.Column("place", sa.Integer, primary_key=True, autoincrement=False),
            sa.Column("content", sa.LargeBinary, nullable=False),
        )
        return cls(objects, pieces)
