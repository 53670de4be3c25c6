"""Values written into temporary tables, to be joined with others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from pantry.daemon.registry.engine import Session
from pantry.daemon.registry.schema import Schema


def stage_ids(session: Session, schema: Schema, ids: Sequence[bytes]) -> sa.Table:
    """Write dataset ids into a temporary table, each once."""
    staged = schema.staged_ids
    session.create_temporary(staged)
    session.run_many(session.database.prepare_insert(staged), list(enumerate(dict.fromkeys(ids))))
    return staged


def stage_tokens(session: Session, schema: Schema, tokens: Iterable[str]) -> sa.Table:
    """Write tokens of removals into a temporary table."""
    staged = schema.staged_tokens
    session.create_temporary(staged)
    session.run_many(session.database.prepare_insert(staged), list(enumerate(tokens)))
    return staged
