"""What a service says of when it may be asked again."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from pantry.errors import TransientBackendError

MAX_RETRY_AFTER_S = 300.0
"""Longest wait that a service can ask for, in seconds."""


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Say for how many seconds the service asks not to be asked; None if it does not.

    Both forms of RFC 9110, section 10.2.3: seconds, or a date. At most `MAX_RETRY_AFTER_S`.
    """
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        wait_s = float(value)
    except ValueError:
        try:
            wait_s = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return None if math.isnan(wait_s) else min(max(wait_s, 0.0), MAX_RETRY_AFTER_S)


def telling_when(error: TransientBackendError, headers: Mapping[str, str]) -> TransientBackendError:
    """Put into an error for how long the service asks to be left alone, if it does; give the error back."""
    if (wait_s := retry_after_s(headers)) is not None:
        error.fields["retry_after_s"] = wait_s
    return error
