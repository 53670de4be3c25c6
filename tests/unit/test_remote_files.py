"""URLs of files in other archives, and what the registry records of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantry.backends.contract import is_key
from pantry.errors import InvalidRequestError
from pantry.model.naming import extension_of
from pantry.model.remote_files import RemoteFile, key_below, plain_url, remote_file


@pytest.mark.parametrize(
    ("given_url", "plain"),
    [
        ("HTTP://Archive.Example.org:80/a/B.fits", "http://archive.example.org/a/B.fits"),
        ("https://x.org:443/a%20b%2D1.fits", "https://x.org/a%20b-1.fits"),
        ("https://x.org:8443/~ann/a+b.fits.fz", "https://x.org:8443/~ann/a%2Bb.fits.fz"),
        ("http://[::1]:8080/a", "http://[::1]:8080/a"),
        ("http://x.org", "http://x.org"),
    ],
)
def test_one_form(given_url: str, plain: str) -> None:
    assert plain_url(given_url) == plain
    assert plain_url(plain) == plain


@pytest.mark.parametrize(
    "wrong",
    [
        "", "x", "/etc/passwd", "file:///etc/passwd", "ftp://x.org/a", "http:///a", "http://u:p@x.org/a", "http://x/a?b",
        "http://x/a?", "http://x/a#", "http://x/a#b", "http://x/a/../b", "http://x/%2e%2e/b", "http://x/a%2fb",
        "http://x//b", "http://x/a%2", "http://x/a%00", "http://x/a b", "http://x/a\\b", "http://x/\n", "http://x/%ff",
        "http://x:99999/a", "http://[x/a", "http://x/é", "http://x/" + "a" * 3000,
    ],
)  # fmt: skip
def test_refused(wrong: str) -> None:
    with pytest.raises(InvalidRequestError):
        plain_url(wrong)


@pytest.mark.parametrize(
    ("root", "url", "key"),
    [
        ("http://x.org/a", "http://x.org/a/b%20c.fits", "b c.fits"),
        ("http://X.org:80/a/", "http://x.org/a/b/c", "b/c"),
        ("http://x.org", "http://x.org/a", "a"),
        ("http://x.org/a", "http://x.org/ab", None),
        ("http://x.org/a", "http://x.org/a", None),
        ("http://x.org/a", "http://x.org/a/", None),
        ("http://x.org/a", "https://x.org/a/b", None),
        ("http://x.org/a", "http://x.org.evil.net/a/b", None),
        ("http://x.org/a", "http://x.org:8080/a/b", None),
        ("s3://bucket/a", "http://x.org/a/b", None),
        ("/data", "http://x.org/data", None),
    ],
)
def test_below(root: str, url: str, key: str | None) -> None:
    assert key_below(root, plain_url(url)) == key


@given(st.text(min_size=1, max_size=60), st.text("abc/.%40-_ é", min_size=1, max_size=40))
def test_what_is_recorded_is_read_back_and_is_no_key(version: str, path: str) -> None:
    try:
        version.encode()
        url = plain_url("http://x.org/a" + path)
    except (UnicodeEncodeError, InvalidRequestError):
        return
    stored = RemoteFile(url, version).path
    assert remote_file(stored) == RemoteFile(url, version)
    assert not is_key(stored)
    assert extension_of(stored) == extension_of(url)


@pytest.mark.parametrize("key", ["a/b.fits", "@a/b", "@a@b", "@a@http:/x", "x@http://y", "http://x/y", "@@http://x/y"])
def test_other_paths_are_keys(key: str) -> None:
    assert remote_file(key) is None
