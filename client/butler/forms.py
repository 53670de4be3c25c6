"""What a user's own file says of formats, and what follows for one dataset type (DMS-MWBT-REQ-0025, 0060)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from pantry.errors import ConfigError, DatasetTypeError, FormatterError
from pantry.model.builtin_formats import BUILTIN_FORMATS
from pantry.model.formats import NO_FORMATS, Formats, StoredForm, builtin_options, check_formats, stored_form
from pantry.model.templates import TemplateLike

VARIABLE = "PANTRY_FORMATS"
"""Environment variable that names the file."""

TemplatesLike = str | os.PathLike[str] | Mapping[str, Any]
FormatsLike = str | os.PathLike[str] | Formats | Mapping[str, Any]


def default_file() -> str:
    """Return where the file is looked for, if nothing names one."""
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(config, "pantry", "formats.yaml")


def user_formats(given: FormatsLike | None, below: Formats = NO_FORMATS) -> Formats:
    """Return what the user says of formats.

    Parameters
    ----------
    given : str, path, Formats or Mapping, optional
        A file, or its content. By default the file that ``PANTRY_FORMATS`` names, else ``formats.yaml`` in the
        user's directory of configurations, if it exists.
    below : Formats
        What the repository says.

    Raises
    ------
    ConfigError
        With the place that is wrong.
    """
    if isinstance(given, Formats):
        formats, source = given, "formats"
    elif isinstance(given, Mapping):
        from pantry.model.loading import convert_plain

        source = "formats"
        formats = convert_plain(dict(given), Formats, source=source)
    else:
        source = os.fspath(given) if given is not None else os.environ.get(VARIABLE, "")
        if not source:
            source = default_file()
            if not os.path.exists(source):
                return NO_FORMATS
        from pantry.model.loading import load_yaml_file

        formats = load_yaml_file(source, Formats)
    check_formats(formats, source=source, options_of=options_of, below=(below,))
    return formats


def path_templates(given: TemplatesLike) -> dict[str, TemplateLike]:
    """Return templates of paths from a file or a mapping; `ConfigError` says what cannot be one, with the place."""
    from pantry.model.templates import Templates

    found: dict[str, TemplateLike]
    if isinstance(given, Mapping):
        found, source = {}, "templates"
        for name, one in given.items():
            try:
                found[name] = msgspec.convert(one, TemplateLike)
            except msgspec.ValidationError as exc:
                raise ConfigError(f"{source}.{name}: {exc}") from None
    else:
        from pantry.model.loading import load_yaml_entries

        source = f"{os.fspath(given)}: templates"
        found = load_yaml_entries(os.fspath(given), TemplateLike)
    Templates(found, source)
    return found


def options_of(formatter: str) -> type[Any] | None:
    """Return the write options of a formatter that is installed here, None if there is none of this name."""
    builtin = builtin_options(formatter)
    if builtin is not None:
        return builtin
    from pantry.client.formatters import formatter_by_name

    try:
        made = formatter_by_name(formatter)
    except FormatterError:
        return None
    return getattr(made, "write_options", dict)


def form_of(dataset_type: str, storage_class: str, layers: Sequence[Formats]) -> StoredForm | None:
    """Decide how datasets of a type are stored and read; None if nobody here knows the storage class."""
    try:
        return stored_form(dataset_type, storage_class, layers)
    except DatasetTypeError:
        return None


def formatter_of_suffix(suffix: str, usual: StoredForm | None) -> str:
    """Choose the formatter of an existing file that is not in its dataset type's usual format.

    Parameters
    ----------
    suffix : str
        Of the file, with the dot.
    usual : StoredForm or None
        How datasets of the type usually are stored; None if nobody here knows.

    Returns
    -------
    str
        The formatter of Pantry's own for such a suffix that gives the type's Python type; empty for the usual one.
    """
    own = BUILTIN_FORMATS.get(usual.formatter) if usual is not None else None
    if usual is None or own is None or not own.extensions or suffix in own.extensions:
        return ""
    for one in BUILTIN_FORMATS.values():
        if suffix in one.extensions and usual.python_type in one.python_types:
            return one.formatter
    return ""
