"""Sending what there is to say about alerts, by e-mail and by webhook, until it is received."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from django.conf import settings
from django.core.mail import EmailMessage
from django.core.serializers.json import DjangoJSONEncoder
from django.db import close_old_connections
from django.db.models import QuerySet

from buffer import __version__, dialect, shown
from buffer.models import Alert, Notice
from buffer.names import escape

logger = logging.getLogger(__name__)

#: Before the second try; it doubles with each. Seconds.
BACKOFF_S: Final = 30.0
MOST_BACKOFF_S: Final = 3600.0
#: Some two days.
MOST_TRIES: Final = 50
TIMEOUT_S: Final = 5.0
#: Of one task: a finder's only worker has something else to do.
_AT_ONCE: Final = 4
_SUBJECT_CHARS: Final = 150


def are_due() -> bool:
    """Tell whether there is something to send now."""
    return _due().exists()


def deliver() -> None:
    """Send what is due (a django-q2 task). What does not get through is due again later."""
    close_old_connections()
    for notice in _due().select_related("alert").order_by("id")[:_AT_ONCE]:
        if _take(notice):
            _send(notice)


def backoff_s(tries: int) -> float:
    """Tell how long to wait after so many tries, in s."""
    return float(min(MOST_BACKOFF_S, BACKOFF_S * 2.0 ** min(tries - 1, 20)))


def text(notice: Notice) -> tuple[str, str]:
    """Write a notice for a person: subject and body, in which nothing is but printable text."""
    alert = notice.alert
    where = f"{alert.kind} {escape(alert.subject)}" + (f" on {alert.host}" if alert.host else "")
    begin = "all clear" if notice.all_clear else "ALERT"
    detail = " ".join(shown.message(alert.detail).split())
    subject = f"[endpoint] {begin}: {alert.condition} of {where}"
    if len(subject) > _SUBJECT_CHARS:
        subject = f"{subject[:_SUBJECT_CHARS]}..."
    lines = [f"{where}: {detail}", "", f"raised: {alert.raised_on:%Y-%m-%d %H:%M:%S} UTC"]
    if notice.all_clear and alert.cleared_on:
        lines += [f"over:   {alert.cleared_on:%Y-%m-%d %H:%M:%S} UTC"]
    else:
        lines += ["", "manage.py status shows what is at work, and what waits."]
    return subject, "\n".join(lines) + "\n"


def document(notice: Notice) -> dict[str, Any]:
    """Write a notice for a machine."""
    alert = notice.alert
    return {
        # The same in every try.
        "id": notice.pk,
        "event": "cleared" if notice.all_clear else "raised",
        "alert": alert.pk,
        "condition": alert.condition,
        "component": alert.kind,
        "subject": escape(alert.subject),
        "host": alert.host,
        "detail": shown.message(alert.detail),
        "raised_on": alert.raised_on,
        "cleared_on": alert.cleared_on,
    }


def signature(timestamp: str, body: bytes) -> str:
    """Sign a body and the time at which it is sent, so that neither can be another's."""
    signed = timestamp.encode("ascii") + b"." + body
    key = settings.ALERT_WEBHOOK_KEY.encode("utf-8")
    return "sha256=" + hmac.new(key, signed, hashlib.sha256).hexdigest()


def _due() -> QuerySet[Notice]:
    return Notice.objects.filter(next_try_on__lte=dialect.clock())


def _take(notice: Notice) -> bool:
    """Count this try beforehand; whoever does is the one who sends."""
    tries = notice.tries + 1
    again: datetime | None = dialect.clock() + timedelta(seconds=backoff_s(tries))
    taken = Notice.objects.filter(pk=notice.pk, tries=notice.tries, sent_on=None).update(
        tries=tries, next_try_on=again if tries < MOST_TRIES else None
    )
    notice.tries = tries
    return bool(taken)


def _send(notice: Notice) -> None:
    # As it is now: it may be over meanwhile.
    notice.alert = Alert.objects.get(pk=notice.alert_id)
    try:
        if notice.channel == Notice.Channel.EMAIL:
            _mail(notice)
        else:
            _post(notice)
    except Exception as error:
        # Whatever it is, it must not cost the others; it is tried again.
        why = shown.message(f"{type(error).__name__}: {error}")[:500]
        logger.warning("%s cannot be sent (try %d): %s", notice, notice.tries, why)
        Notice.objects.filter(pk=notice.pk).update(error=why)
        return
    Notice.objects.filter(pk=notice.pk).update(sent_on=dialect.clock(), next_try_on=None, error="")


def _mail(notice: Notice) -> None:
    subject, body = text(notice)
    EmailMessage(subject, body, to=settings.ALERT_EMAILS).send()


class _NoRedirects(HTTPRedirectHandler):
    """Takes a redirect for an error: what is signed goes where it was meant to go."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""
        return None


def _post(notice: Notice) -> None:
    body = json.dumps(document(notice), cls=DjangoJSONEncoder).encode("utf-8")
    timestamp = str(int(dialect.clock().timestamp()))
    request = Request(
        settings.ALERT_WEBHOOK,
        data=body,
        headers={
            "Content-Type": "application/json",
            "User-Agent": f"endpoint-buffer-manager/{__version__}",
            "X-Endpoint-Timestamp": timestamp,
            "X-Endpoint-Signature": signature(timestamp, body),
        },
    )
    try:
        with build_opener(_NoRedirects).open(request, timeout=TIMEOUT_S):
            pass
    except HTTPError as error:
        error.close()
        raise ConnectionError(f"the webhook answered {error.code}") from None
