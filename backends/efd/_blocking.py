"""Makes the sources that ask services; the only way to `requests` and SQLAlchemy."""

from __future__ import annotations

from collections.abc import Mapping

from pantry.backends.efd.options import EfdOptions, InfluxOptions, PostgresqlOptions, parse_options, split_root
from pantry.backends.efd.source import Source


def make_source(root: str, options: Mapping[str, object]) -> tuple[Source, EfdOptions]:
    """Make the source of an EFD, not yet connected; SDKs are imported for its own kind only.

    Raises
    ------
    ConfigError
        For a bad root or option.
    """
    where = split_root(root)
    if where.scheme == "postgresql":
        from pantry.backends.efd._postgresql import PostgresqlSource

        transformed, credential = parse_options(options, PostgresqlOptions)
        return PostgresqlSource(where, transformed, credential), transformed
    from pantry.backends.efd._influx import InfluxSource

    base, credential = parse_options(options, InfluxOptions)
    return InfluxSource(where, base, credential), base
