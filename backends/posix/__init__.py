"""Objects as files below a directory: local disk, NFS, GlusterFS or any other mounted file system.

A file's version is ``<mtime_ns>-<size>-<inode>``, each in hexadecimal: it changes when the file is
rewritten in place and when another file takes its name. Names that begin with ``.pantry-`` belong to
writes under way; they are neither listed nor allowed as keys.
"""

from pantry.backends.posix.backend import PosixBackend, PosixBackendFactory

__all__ = ["PosixBackend", "PosixBackendFactory"]
