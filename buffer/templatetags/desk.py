"""What the templates of the operator's pages need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from django import template
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from buffer import admin_base, shown

register = template.Library()

_BAR: Final = 5
_HEIGHT: Final = 24


@register.simple_tag
def query(base: Mapping[str, Any] | None = None, **values: Any) -> str:
    """Write the query of an address; it is escaped like any text when it is shown."""
    return urlencode({**(base or {}), **values})


@register.simple_tag
def spark(counts: Sequence[int]) -> SafeString:
    """Draw counts of hours as small bars, the latest at the right."""
    most = max(counts, default=0)
    if not most:
        return SafeString("")
    words = f"by hour, the latest last: {', '.join(map(str, counts))}"
    bars = (
        (at * _BAR, _HEIGHT - height, _BAR - 1, height)
        for at, n in enumerate(counts)
        if (height := -(-n * _HEIGHT // most))
    )
    return format_html(
        '<svg class="spark" role="img" width="{}" height="{}"><title>{}</title>{}</svg>',
        len(counts) * _BAR,
        _HEIGHT,
        words,
        format_html_join("", '<rect x="{}" y="{}" width="{}" height="{}"/>', bars),
    )


@register.filter
def badge(word: str) -> SafeString:
    """Show a status by its word and by a colour."""
    return admin_base.badge(word)


@register.filter
def message(text: str) -> str:
    """Make a message safe to show."""
    return shown.message(text)
