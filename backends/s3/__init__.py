"""Objects in a bucket of S3 or of one of the many services that speak its protocol.

An object's version is its ETag as the service answers it, or time and size where there is none.
"""

from pantry.backends.s3.backend import S3Backend, S3BackendFactory

__all__ = ["S3Backend", "S3BackendFactory"]
