"""SQL databases: a store of objects with their rows beside them, and a service that answers queries.

Both of PostgreSQL and SQLite (docs/decisions/0064-databases.md).
"""

from pantry.backends.sql.backend import SqlBackend, SqlBackendFactory
from pantry.backends.sql.querying import SqlQueryBackend, SqlQueryBackendFactory

__all__ = ["SqlBackend", "SqlBackendFactory", "SqlQueryBackend", "SqlQueryBackendFactory"]
