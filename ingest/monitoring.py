"""``/healthz``, ``/readyz`` and ``/metrics``: what machines ask the web server for."""

from __future__ import annotations

import logging
from ipaddress import ip_address
from typing import Final

from django.conf import settings
from django.db import Error
from django.http import HttpRequest, HttpResponse, HttpResponseForbidden, JsonResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client.exposition import choose_encoder

from buffer import outages
from ingest import readiness
from ingest.metrics import registry

logger = logging.getLogger(__name__)

#: Headers of whoever passes on the requests of others.
_OF_PROXIES: Final = ("X-Forwarded-For", "X-Real-IP", "Forwarded", "Via")


@never_cache
@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """Answer, as long as the process can."""
    return HttpResponse("ok\n", content_type="text/plain")


@never_cache
@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """Say whether everything that should run does, and else what does not, with status 503."""
    faults = readiness.faults()
    ready = not any(faults.values())
    return JsonResponse({"ready": ready, "faults": faults}, status=200 if ready else 503)


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Give all numbers in Prometheus's format, to those who may read them."""
    if not _may_read(request):
        return HttpResponseForbidden(
            "403: send METRICS_TOKEN as a bearer token, or ask from this host, not by a proxy\n",
            content_type="text/plain",
        )
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    try:
        return HttpResponse(encode(registry), content_type=content_type)
    except Error as error:
        logger.warning("no metrics: %s", outages.reason(error))
        return HttpResponse(
            "503: the database does not answer\n", status=503, content_type="text/plain"
        )


def _may_read(request: HttpRequest) -> bool:
    token: str = settings.METRICS_TOKEN
    if token:
        sent = request.headers.get("Authorization", "")
        return constant_time_compare(sent, f"Bearer {token}")
    # A proxy on this host asks from here too, for everybody.
    if any(name in request.headers for name in _OF_PROXIES):
        return False
    try:
        return ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        # A socket of this host, to which a proxy is connected.
        return False
