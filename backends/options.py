"""What the options of all backends have in common: names and types are checked, secrets kept out of sight."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from pantry.backends.credentials import Secret
from pantry.errors import ConfigError

OptionsT = TypeVar("OptionsT", bound=msgspec.Struct)


def checked_options(
    options: Mapping[str, object], kind: type[OptionsT], *, service: str, besides: Iterable[str] = ()
) -> OptionsT:
    """Make a ``kind`` of ``options``.

    Parameters
    ----------
    options : Mapping[str, object]
        From the configuration.
    kind : type
        Struct of the options that there are.
    service : str
        What they are for, such as ``vospace storage``, for messages.
    besides : Iterable[str]
        Names that are passed over: somebody else checks them.

    Raises
    ------
    ConfigError
        For an unknown name or a wrong type; never with a secret in it.
    """
    others = tuple(besides)
    known = (*kind.__struct_fields__, *others)
    if unknown := sorted(options.keys() - set(known)):
        raise ConfigError(f"{service}: unknown options {unknown}; known are {', '.join(known)}")
    try:
        return msgspec.convert(
            {name: value for name, value in options.items() if name not in others}, kind, dec_hook=_secret
        )
    except msgspec.ValidationError as exc:
        raise ConfigError(f"{service}: {exc}") from None


def check_positive(options: msgspec.Struct, *names: str, service: str) -> None:
    """Refuse those of the numbers ``names`` that are not above zero."""
    for name in names:
        if not getattr(options, name) > 0:  # NaN is none
            raise ConfigError(f"{service}: {name} must be positive")


def _secret(kind: type, value: Any) -> Any:
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    if kind is Secret and isinstance(value, Secret):
        return value
    # Without the value: it may be a secret written in the wrong form.
    raise ValueError("expected a string")
