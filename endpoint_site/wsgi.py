"""WSGI entry point, for any WSGI server."""

import os

from django.core.wsgi import get_wsgi_application
from django.template.loader import get_template
from django.urls import reverse

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "endpoint_site.settings")

application = get_wsgi_application()

# Whoever asks for the first page should not wait for what needs no database: addresses with the
# code behind them, and templates.
reverse("admin:index")
for _name in ("admin/base.html", "admin/base_site.html", "admin/index.html",
              "admin/ingest/overview.html"):  # fmt: skip
    get_template(_name)
