"""The one process with state: server, authorisation, registry, cache, transfers, repositories, journal."""
