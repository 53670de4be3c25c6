"""A query service of the node, as its users ask it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, Literal, cast

from pantry.client.connection import Connection, connect
from pantry.client.queries.values import parameter_values
from pantry.errors import InvalidRequestError, ProtocolError
from pantry.model.queries import Query, Statement
from pantry.wire.operations import ListQueries, QueryAnswer, QueryInfo, RunQuery

Form = Literal["astropy", "arrow", "pandas"]
"""As what rows are given: an astropy Table, a pyarrow Table, or a pandas DataFrame."""

DEFAULT_ROWS = Statement(text="").max_rows
"""Most rows of an answer, unless it is asked for more; the service's own limit holds besides."""

_TYPES = {"astropy": "astropy.table.Table", "arrow": "pyarrow.Table", "pandas": "pandas.DataFrame"}


class QueryService:
    """A service that the daemon's configuration names under ``services``: TAP, SQL, an EFD.

    Answers come through the node's cache. The daemon alone knows the service's credentials.

    Parameters
    ----------
    name : str, optional
        As configured; may be left out to ask configured queries only.
    socket : str, optional
        Of the daemon; the usual one by default.

    Examples
    --------
    >>> gaia = QueryService("gaia")
    >>> bright = gaia.ask("bright_stars", region=Circle(ra=53.1, dec=-28.1, radius=0.5), limit=12.0)
    >>> counts = gaia.run("SELECT COUNT(*) AS n FROM gaia.source WHERE phot_g_mean_mag < :g", {"g": 10.0})
    """

    def __init__(self, name: str = "", *, socket: str | None = None, connection: Connection | None = None) -> None:
        self.name = name
        self.connection: Connection = connection or connect(socket)

    def __repr__(self) -> str:
        return f"QueryService({self.name!r})"

    def queries(self) -> list[QueryInfo]:
        """Return the configured queries and selections of this service, or of all, that you may ask."""
        found = self.connection.call(ListQueries()).queries
        return [one for one in found if self.name in ("", one.service)]

    def ask(
        self, query: str, /, *, form: Form = "astropy", tables: Mapping[str, Any] | None = None, **parameters: Any
    ) -> Any:
        """Ask a configured query or selection.

        Parameters
        ----------
        query : str
            Its name; `queries` lists them.
        form : str
            ``astropy``, ``arrow`` or ``pandas``.
        tables : Mapping, optional
            Tables to upload, by parameter.
        **parameters
            Values of its parameters: numbers, texts, lists, an astropy Time or SkyCoord, a `Point`, `Circle` or
            `Polygon`.

        Returns
        -------
        astropy.table.Table, pyarrow.Table or pandas.DataFrame
            With units and descriptions, where the form has room for them.

        Raises
        ------
        InvalidQueryError
            A value is missing or of the wrong type, or the service refuses the query.
        LimitExceededError
            There are more rows than the service may give: never a part of them.
        """
        operation = RunQuery(query=query, parameters=parameter_values(parameters), tables=tuple(tables or ()))
        return self._run(operation, form, tables or {})

    def run(
        self,
        statement: str | Query,
        /,
        parameters: Mapping[str, Any] | None = None,
        *,
        max_rows: int | None = None,
        form: Form = "astropy",
        tables: Mapping[str, Any] | None = None,
    ) -> Any:
        """Send a statement of your own, if the configuration lets you; otherwise as `ask`.

        Parameters
        ----------
        statement : str
            In the service's language, with ``:name`` for values and ``@name`` for configured selections.
        parameters : Mapping, optional
            The values. They are sent by their types and never become part of the text.
        max_rows : int, optional
            Most rows; one more is an error. By default `DEFAULT_ROWS`.
        form, tables
            As of `ask`.
        """
        if isinstance(statement, str):
            values = parameter_values(parameters or {})
            question: Query = Statement(text=statement, parameters=values, max_rows=max_rows or DEFAULT_ROWS)
        elif parameters or max_rows is not None:
            raise InvalidRequestError("what is asked has its parameters and max_rows in it already")
        else:
            question = statement
        if not self.name:
            raise InvalidRequestError("which service? make a QueryService by its name")
        operation = RunQuery(service=self.name, question=question, tables=tuple(tables or ()))
        return self._run(operation, form, tables or {})

    def _run(self, operation: RunQuery, form: Form, tables: Mapping[str, Any]) -> Any:
        if form not in _TYPES:
            raise InvalidRequestError(f"{form!r} is no form of rows", hint=f"there are {', '.join(_TYPES)}")
        with uploaded(tables) as fds:
            answer, came = self.connection.call_with_fds(operation, fds)
        return rows_of(answer, came, _TYPES[form])

    def close(self) -> None:
        """Close the connection; the next call opens it again."""
        self.connection.close()

    def __enter__(self) -> QueryService:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def uploaded(tables: Mapping[str, Any]) -> Iterator[list[int]]:
    """Write tables as Parquet files in memory; give their descriptors."""
    fds: list[int] = []
    try:
        for name, table in tables.items():
            from pantry.client.formatters import formatter_by_name

            fd = os.memfd_create(f"pantry-{name}"[:100], os.MFD_CLOEXEC)
            fds.append(fd)
            with open(fd, "w+b", closefd=False) as file:
                formatter_by_name("parquet").write(table, cast(BinaryIO, file))
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


def rows_of(answer: QueryAnswer, fds: tuple[int, ...], python_type: str) -> Any:
    """Read an answer's file, and close it."""
    from pantry.client.formatters import ReadSource, convert, formatter_by_name

    try:
        if len(fds) != 1:
            raise ProtocolError(f"the daemon sent {len(fds)} descriptors in place of one")
        source = ReadSource(name=answer.name, size_bytes=answer.size_bytes, path=f"/proc/self/fd/{fds[0]}", opener=None)
        return convert(formatter_by_name("parquet").read(source, component=None, parameters={}), python_type)
    finally:
        for fd in fds:
            os.close(fd)
