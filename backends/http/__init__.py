"""Objects below a URL of any HTTP server, for reading.

An object's version is its ETag, or time and size where there is none.
"""

from pantry.backends.http.backend import HttpBackend, HttpBackendFactory

__all__ = ["HttpBackend", "HttpBackendFactory"]
