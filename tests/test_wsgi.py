"""What a web process does before the first request."""

from __future__ import annotations

import os
import subprocess
import sys

_LOOK = """
import sys
from endpoint_site import wsgi
assert "ingest.frontpage" in sys.modules, "the first page would wait for its code"
"""


def test_it_is_ready_for_the_first_page_without_a_database() -> None:
    env = {**os.environ, "DATABASE_URL": "postgresql://a:b@127.0.0.1:1/none"}
    env["DJANGO_SETTINGS_MODULE"] = "endpoint_site.settings"
    subprocess.run([sys.executable, "-c", _LOOK], check=True, env=env, timeout=60)
