"""Settings of the test runs: the project's own, with a database of the tests'.

``TEST_DATABASE`` chooses ``sqlite`` (the default: a real file, WAL and IMMEDIATE as in production)
or ``postgresql``; the suite is run once with each.
"""

import os
import tempfile
import zlib
from pathlib import Path

import pytest

from tests import servers

_scratch = Path(os.environ.setdefault("TEST_SCRATCH", tempfile.mkdtemp(prefix="endpoint-tests-")))
os.environ["ENDPOINT_DATA_DIR"] = str(_scratch)
os.environ.setdefault("SECRET_KEY", "only for tests, and of no worth to anybody at all")
os.environ.pop("Q_BROKER_URL", None)

if os.environ.get("TEST_DATABASE") == "postgresql":
    _url = servers.postgres_url()
    if _url is None:
        pytest.exit("no PostgreSQL server and none installed to start", returncode=3)
    # By checkout, so that the tests of two of them do not destroy each other's database.
    _checkout = zlib.crc32(os.fsencode(Path(__file__).resolve().parent))
    os.environ["DATABASE_URL"] = f"{_url.rpartition('/')[0]}/endpoint_{_checkout:08x}"
else:
    os.environ["DATABASE_URL"] = f"sqlite:///{_scratch}/endpoint.sqlite3"

from endpoint_site.settings import *  # noqa: E402, F403
from endpoint_site.settings import DATABASES  # noqa: E402

if os.environ.get("TEST_DATABASE") != "postgresql":
    DATABASES["default"]["TEST"] = {"NAME": str(_scratch / "test.sqlite3")}

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
