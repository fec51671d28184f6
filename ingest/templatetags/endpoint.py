"""What the admin's own templates need: the overview, statuses and messages as they are shown."""

from __future__ import annotations

import time
from typing import Final

from django import template
from django.utils.safestring import SafeString

from buffer import admin_base, shown
from ingest.overview import Overview, overview

register = template.Library()

#: The front page costs little, however often it is loaded: what was dear is kept for this many
#: times as long as it took.
_KEPT_FOR: Final = 20
_CHEAP_S: Final = 0.25

_last: tuple[float, Overview] | None = None


@register.simple_tag
def state_of_everything() -> Overview:
    """Give the overview; over many millions of files it may be some seconds old."""
    global _last
    if _last is not None and time.monotonic() < _last[0]:
        return _last[1]
    began = time.monotonic()
    state = overview()
    took = time.monotonic() - began
    _last = (began + took + _KEPT_FOR * took, state) if took > _CHEAP_S else None
    return state


@register.filter
def badge(word: str) -> SafeString:
    """Show a status by its word and by a colour."""
    return admin_base.badge(word)


@register.filter
def message(text: str) -> str:
    """Make a message safe to show."""
    return shown.message(text)
