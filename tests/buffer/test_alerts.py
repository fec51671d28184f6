"""Alerts: one for each episode, whoever looks, and what is sent about them."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from email.header import decode_header, make_header
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from django.core import mail
from django.core.checks import run_checks
from django.utils import timezone

from buffer import alerts, notices, operator_pauses
from buffer.models import Alert, Component, Notice
from buffer.operator_pauses import Pausable

pytestmark = pytest.mark.django_db

HOSTILE = "/data/<b>\u202e\nBcc: all@example.org\r\n"


@pytest.fixture(autouse=True)
def told(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.ALERT_EMAILS = ["night@example.org"]
    # It would close the connection that the test's transaction is open on.
    monkeypatch.setattr(notices, "close_old_connections", lambda: None)


@pytest.fixture
def finder() -> Component:
    """A finder that stored something an hour ago, and expects something every two hours."""
    now = timezone.now()
    return Component.objects.create(
        kind="finder",
        subject="/data/buffer",
        host="alpha",
        pid=7,
        settings={"finder": {"alerts": {"silence_hours": 2}}},
        started_on=now - timedelta(days=1),
        measures={"stored_at": (now - timedelta(hours=1)).timestamp()},
    )


def stored(finder: Component, hours_ago: float) -> None:
    moment = timezone.now() - timedelta(hours=hours_ago)
    Component.objects.filter(pk=finder.pk).update(measures={"stored_at": moment.timestamp()})


def deliver_all() -> None:
    while notices.are_due():
        notices.deliver()


# Episodes


def test_one_alert_and_one_all_clear_for_each_episode(finder: Component) -> None:
    alerts.check()
    assert alerts.raised() == []
    stored(finder, 3)
    for _ in range(3):
        alerts.check()
        deliver_all()
    (alert,) = alerts.raised()
    assert (alert.condition, alert.kind, alert.subject) == ("SILENCE", "finder", "/data/buffer")
    assert alert.detail.startswith("nothing was stored since 20")
    assert alert.detail.endswith("more than 2 hours")
    assert len(mail.outbox) == 1
    stored(finder, 0)
    for _ in range(3):
        alerts.check()
        deliver_all()
    assert alerts.raised() == []
    assert [message.subject.split(":")[0] for message in mail.outbox] == [
        "[endpoint] ALERT",
        "[endpoint] all clear",
    ]
    stored(finder, 3)
    alerts.check()
    deliver_all()
    assert (Alert.objects.count(), len(mail.outbox)) == (2, 3)


def test_a_restart_sends_nothing_again(finder: Component) -> None:
    stored(finder, 3)
    alerts.check()
    deliver_all()
    Component.objects.create(
        kind="finder", subject="/data/buffer", host="alpha", pid=8, settings=finder.settings
    )
    alerts.check()
    deliver_all()
    assert (Alert.objects.count(), len(mail.outbox)) == (1, 1)


def test_two_that_look_at_the_same_moment(
    finder: Component, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(finder, 3)
    monkeypatch.setattr(alerts, "raised", lambda: [])
    alerts.check()
    alerts.check()
    assert (Alert.objects.count(), Notice.objects.count()) == (1, 1)


def test_one_that_never_stored_anything(finder: Component) -> None:
    Component.objects.update(measures={})
    alerts.check()
    assert len(alerts.raised()) == 1


def test_a_dead_finder_is_missed(finder: Component) -> None:
    stored(finder, 3)
    Component.objects.update(seen_on=timezone.now() - timedelta(hours=3))
    alerts.check()
    assert len(alerts.raised()) == 1


@pytest.mark.parametrize("how", ["stopped", "paused"])
def test_nothing_is_expected_of_one_that_is_off(finder: Component, how: str) -> None:
    what = Pausable.of(finder)
    assert what is not None
    stored(finder, 3)
    if how == "stopped":
        Component.objects.update(stopped_on=timezone.now())
    else:
        operator_pauses.pause(what, user="ann")
    alerts.check()
    assert alerts.raised() == []
    Component.objects.update(stopped_on=None)
    operator_pauses.resume(what, user="ann")
    alerts.check()
    assert len(alerts.raised()) == 1
    # Nor is it an all-clear.
    operator_pauses.pause(what, user="ann")
    alerts.check()
    assert len(alerts.raised()) == 1


def test_without_a_threshold_nothing_is_raised_and_what_stood_is_over(finder: Component) -> None:
    stored(finder, 3)
    alerts.check()
    Component.objects.update(settings={"finder": {"alerts": {"silence_hours": None}}})
    alerts.check()
    assert alerts.raised() == [] and Alert.objects.count() == 1


def test_settings_of_another_version_are_passed_over(finder: Component) -> None:
    for settings in ({}, {"finder": {"alerts": {"volume": 11}}}, {"finder": None}):
        Component.objects.update(settings=settings)
        alerts.check()
    assert not Alert.objects.exists()


def test_who_watches_looks_now_and_then(finder: Component, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(finder, 3)
    sent: list[str] = []
    watch = alerts.Watch()
    watch.step(sent.append)
    assert not Alert.objects.exists(), "a short run need not look"
    monkeypatch.setattr(alerts, "LOOK_EVERY_S", 0.0)
    watch = alerts.Watch()
    watch.step(sent.append)
    assert sent == ["buffer.notices.deliver"]
    deliver_all()
    watch.step(sent.append)
    assert len(sent) == 1


# What is sent


def past() -> datetime:
    """Give a moment that is past by every clock."""
    return timezone.now() - timedelta(seconds=1)


def notice_of(channel: str = "email", **fields: Any) -> Notice:
    alert = Alert.objects.create(
        **{
            "condition": "SILENCE",
            "kind": "finder",
            "subject": HOSTILE,
            "host": "alpha",
            "detail": "postgres://a:hunter2@h \x1b[2J <script>",
            "raised_on": timezone.now(),
            **fields,
        }
    )
    return Notice.objects.create(alert=alert, all_clear=False, channel=channel, next_try_on=past())


def test_hostile_names_in_mails() -> None:
    notice_of()
    deliver_all()
    (message,) = mail.outbox
    whole = message.message().as_bytes().decode()
    assert message.to == ["night@example.org"]
    assert "\n" not in message.subject and "\\x0aBcc" in message.subject
    head = whole.partition("\n\n")[0]
    assert not any(line.startswith("Bcc") for line in head.splitlines())
    shown = str(make_header(decode_header(message.subject))) + message.body
    assert "\u202e" not in shown and "\x1b" not in shown and "hunter2" not in shown
    assert message.content_subtype == "plain"


def test_long_names_in_mails() -> None:
    notice_of(subject="x" * 65536)
    deliver_all()
    assert len(mail.outbox[0].subject) < 160


class Receiver(HTTPServer):
    """Receives webhooks, and answers with a status."""

    def __init__(self) -> None:
        self.status = 200
        self.got: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((dict(self.headers), body))
                self.send_response(receiver.status)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def do_GET(self) -> None:
                receiver.got.append(({}, b"followed"))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    settings.ALERT_EMAILS = []
    settings.ALERT_WEBHOOK = f"http://127.0.0.1:{server.server_port}/hook"
    settings.ALERT_WEBHOOK_KEY = "k\u00e9y"
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_webhook(finder: Component, receiver: Receiver) -> None:
    stored(finder, 3)
    alerts.check()
    deliver_all()
    stored(finder, 0)
    alerts.check()
    deliver_all()
    plain = [json.loads(body) for _, body in receiver.got]
    assert [one["event"] for one in plain] == ["raised", "cleared"]
    assert plain[0]["alert"] == plain[1]["alert"] and plain[0]["id"] != plain[1]["id"]
    assert plain[0]["cleared_on"] is None
    raised, cleared = (datetime.fromisoformat(plain[1][key]) for key in ("raised_on", "cleared_on"))
    assert raised < cleared
    assert (plain[0]["condition"], plain[0]["subject"]) == ("SILENCE", "/data/buffer")
    for headers, body in receiver.got:
        signed = headers["X-Endpoint-Timestamp"].encode() + b"." + body
        expected = hmac.new("k\u00e9y".encode(), signed, hashlib.sha256).hexdigest()
        assert headers["X-Endpoint-Signature"] == f"sha256={expected}"
        assert headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("status", [500, 403, 302])
def test_what_does_not_get_through_is_sent_again(receiver: Receiver, status: int) -> None:
    notice = notice_of("webhook")
    receiver.status = status
    notices.deliver()
    assert not notices.are_due(), "not at once"
    notice.refresh_from_db()
    assert (notice.tries, notice.sent_on) == (1, None)
    assert notice.error == f"ConnectionError: the webhook answered {status}"
    receiver.status = 204
    Notice.objects.update(next_try_on=past())
    notices.deliver()
    notice.refresh_from_db()
    assert notice.sent_on is not None and notice.error == "" and notice.next_try_on is None
    first, second = receiver.got
    assert json.loads(first[1])["id"] == json.loads(second[1])["id"]


def test_a_webhook_that_is_not_there_does_not_cost_the_mail(settings: Any) -> None:
    settings.ALERT_WEBHOOK, settings.ALERT_WEBHOOK_KEY = "http://127.0.0.1:1/", "key"
    notice = notice_of("webhook")
    Notice.objects.create(alert=notice.alert, all_clear=False, channel="email", next_try_on=past())
    notices.deliver()
    assert len(mail.outbox) == 1
    notice.refresh_from_db()
    assert "refused" in notice.error and notice.next_try_on is not None


def test_it_is_given_up_some_day(settings: Any) -> None:
    settings.ALERT_WEBHOOK, settings.ALERT_WEBHOOK_KEY = "http://127.0.0.1:1/", "key"
    notice = notice_of("webhook")
    Notice.objects.update(tries=notices.MOST_TRIES - 1)
    notices.deliver()
    notice.refresh_from_db()
    assert (notice.next_try_on, notice.sent_on) == (None, None)
    assert notices.backoff_s(1) == 30 and notices.backoff_s(2) == 60
    assert notices.backoff_s(notices.MOST_TRIES) == 3600


def test_two_workers_send_once() -> None:
    notice = notice_of()
    assert notices._take(Notice.objects.get(pk=notice.pk))
    assert not notices._take(notice)


def test_settings_that_cannot_work(settings: Any) -> None:
    settings.ALERT_WEBHOOK, settings.ALERT_WEBHOOK_KEY = "ftp://h/", "key"
    assert [error.id for error in run_checks()] == ["buffer.E003"]
    settings.ALERT_WEBHOOK, settings.ALERT_WEBHOOK_KEY = "https://h/", ""
    assert [error.id for error in run_checks()] == ["buffer.E004"]
    settings.ALERT_WEBHOOK_KEY = "key"
    assert run_checks() == []
