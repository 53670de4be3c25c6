"""``pantry credentials``: your own, for storage and services that are asked with each user's own rights."""

from __future__ import annotations

import configparser
import sys
from typing import Literal

import click

from pantry.client.cli.cache_keeping import duration_s
from pantry.client.cli.lazy import Command, CommandGroup
from pantry.client.cli.output import json_option, print_json, print_table, time
from pantry.client.cli.session import daemon
from pantry.client.node import LIFETIME_S
from pantry.errors import InvalidRequestError
from pantry.wire.operations import AddCredential, ListCredentials, RemoveCredential

Kind = Literal["token", "password", "certificate", "keys"]

_MOST = 256 * 1024


@click.group(cls=CommandGroup)
def credentials() -> None:
    """Hand your own credentials over to the daemon, see which it has, and take them back.

    It keeps them in memory, for you alone, until they expire or it ends. Secrets are never given on the command line.

    For example:
      pantry credentials add https://example.org/data
      pantry credentials list
      pantry credentials remove https://example.org/data
    """


@credentials.command(cls=Command)
@click.argument("uri")
@click.option(
    "--kind",
    type=click.Choice(("token", "password", "certificate", "keys")),
    help="What it is; by default keys for s3, else a token.",
)
@click.option(
    "--file", "source", metavar="FILE", help="Read it from a file, '-' for standard input; else you are asked."
)
@click.option("--username", metavar="NAME", help="Of a password.")
@click.option("--profile", metavar="NAME", default="default", help="Of a file of keys.")
@click.option(
    "--lifetime",
    metavar="TIME",
    help=f"Keep it for 90s, 30m, 12h or 7d; by default {LIFETIME_S / 3600:g}h.",
)
@click.pass_context
def add(
    ctx: click.Context,
    uri: str,
    kind: Kind | None,
    source: str | None,
    username: str | None,
    profile: str,
    lifetime: str | None,
) -> None:
    """Hand a credential over for all that is at or below URI.

    FILE has the token or password alone; the certificate with its chain and key, as PEM; or keys as in
    ~/.aws/credentials.

    For example:
      pantry credentials add https://example.org/data --file token.txt
      pantry credentials add vos://example.org!vospace --kind certificate --file ~/.ssl/proxy.pem
      pantry credentials add s3://survey --file ~/.aws/credentials --profile survey
    """
    chosen: Kind = kind or ("keys" if uri.startswith("s3:") else "token")
    if (username is not None) != (chosen == "password"):
        raise click.UsageError("--username goes together with --kind password")
    lifetime_s = LIFETIME_S if lifetime is None else duration_s(lifetime)
    options = _read(chosen, source, username, profile)
    held = daemon(ctx).call(AddCredential(uri=uri, options=options, lifetime_s=lifetime_s))
    click.echo(f"{held.kind} for {held.uri}, until {time(held.expires_ns)}")


def _read(kind: Kind, source: str | None, username: str | None, profile: str) -> dict[str, str]:
    if kind == "keys":
        if source is not None:
            return _keys(_text(source), profile)
        return {"access_key_id": _ask("access key id"), "secret_access_key": _ask("secret access key")}
    if kind == "certificate":
        if source is None:
            raise click.UsageError("a certificate is read from a file: --file FILE")
        return {"certificate": _text(source)}
    secret = _ask(kind) if source is None else _text(source).rstrip("\r\n")
    return {"token": secret} if kind == "token" else {"username": username or "", "password": secret}


def _ask(what: str) -> str:
    return str(click.prompt(what, hide_input=True, err=True))


def _text(source: str) -> str:
    try:
        if source == "-":
            return sys.stdin.read(_MOST)
        with open(source, encoding="utf-8") as file:
            return file.read(_MOST)
    except OSError as exc:
        raise InvalidRequestError(f"{source} cannot be read: {exc.strerror}") from None
    except UnicodeDecodeError:
        # Without the bytes: they may be the secret.
        raise InvalidRequestError(f"{source} is no UTF-8 text") from None


def _keys(text: str, profile: str) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(text)
        found = dict(parser[profile]) if profile in parser else {}
    except configparser.Error:
        # Its message has the line.
        raise InvalidRequestError("the file of keys is not written as ~/.aws/credentials is") from None
    names = ("access_key_id", "secret_access_key", "session_token")
    keys = {name: found[f"aws_{name}"] for name in names if f"aws_{name}" in found}
    if not {"access_key_id", "secret_access_key"} <= keys.keys():
        raise InvalidRequestError(f"the file has no aws_access_key_id and aws_secret_access_key for {profile!r}")
    return keys


@credentials.command("list", cls=Command)
@json_option
@click.pass_context
def list_credentials(ctx: click.Context, as_json: bool) -> None:
    """List what the daemon has of you, without the secrets.

    For example:
      pantry credentials list
    """
    found = daemon(ctx, start=False).call(ListCredentials()).credentials
    if as_json:
        print_json(found)
        return
    print_table(("uri", "kind", "until"), [(one.uri, one.kind, time(one.expires_ns)) for one in found])


@credentials.command(cls=Command)
@click.argument("uri")
@click.pass_context
def remove(ctx: click.Context, uri: str) -> None:
    """Take back the credential that you handed over for URI.

    For example:
      pantry credentials remove https://example.org/data
    """
    daemon(ctx, start=False).call(RemoveCredential(uri=uri))
