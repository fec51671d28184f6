"""What the admin's own templates need: the front page, statuses and messages as they are shown."""

from __future__ import annotations

from django import template
from django.utils.safestring import SafeString

from buffer import admin_base, shown
from ingest.frontpage import FrontPage, front_page

register = template.Library()


@register.simple_tag
def everything() -> FrontPage:
    """Give what the front page shows."""
    return front_page()


@register.filter
def badge(word: str) -> SafeString:
    """Show a status by its word and by a colour."""
    return admin_base.badge(word)


@register.filter
def message(text: str) -> str:
    """Make a message safe to show."""
    return shown.message(text)
