"""``make demo``: a repository in S3, cached, mounted, read and written, in about a minute.

Everything it starts and writes lies below one temporary directory, apart from the picture in ``build/demo``.
"""
