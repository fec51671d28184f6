"""Settings of the endpoint buffer manager, all from the environment.

``.env.example`` explains each variable; a ``.env`` file beside ``manage.py`` is read too.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import environ

from buffer.database import settings_for
from endpoint_site.secret_key import secret_key

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()
env.read_env(BASE_DIR / ".env")

DATA_DIR = Path(env.str("ENDPOINT_DATA_DIR", default=str(BASE_DIR / "data"))).resolve()

SECRET_KEY = env.str("SECRET_KEY", default="") or secret_key(DATA_DIR)
DEBUG = env.bool("DEBUG", default=False)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])

INSTALLED_APPS = [
    "buffer",
    "ingest",
    "django_q",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "endpoint_site.content_security.content_security",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "endpoint_site.urls"
WSGI_APPLICATION = "endpoint_site.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

_DEFAULT_DATABASE_URL = f"sqlite:///{quote(str(DATA_DIR / 'endpoint.sqlite3'))}"
DATABASE_URL = env.str("DATABASE_URL", default="") or _DEFAULT_DATABASE_URL
DATABASES = {"default": settings_for(DATABASE_URL)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
FORMAT_MODULE_PATH = "endpoint_site.formats"

STATIC_URL = "static/"
# The admin is styled with DEBUG off and without a collectstatic step that could be forgotten.
WHITENOISE_USE_FINDERS = True

SESSION_COOKIE_SECURE = env.bool("SESSION_COOKIE_SECURE", default=False)
CSRF_COOKIE_SECURE = env.bool("CSRF_COOKIE_SECURE", default=False)
X_FRAME_OPTIONS = "DENY"

# Dotted paths of third-party plugins that ingester.plugin.name may name.
INGEST_PLUGINS = env.list("INGEST_PLUGINS", default=[])

# Whoever sends it may read /metrics; without it only this host may.
METRICS_TOKEN = env.str("METRICS_TOKEN", default="")

# Who is told of alerts, and how.
vars().update(env.email_url("EMAIL_URL", default="smtp://localhost:25"))
EMAIL_TIMEOUT = 5
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="endpoint@localhost")
ALERT_EMAILS = env.list("ALERT_EMAILS", default=[])
ALERT_WEBHOOK = env.str("ALERT_WEBHOOK", default="")
ALERT_WEBHOOK_KEY = env.str("ALERT_WEBHOOK_KEY", default="")

# Of the web server: errors of pages with their tracebacks, which Django by itself would only mail.
# Commands that have a ``logging`` section replace it.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"()": "buffer.logsetup.standard_error"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {
        "django": {"handlers": [], "level": "INFO"},
        # What its processes do is the watchdog's to tell.
        "django-q": {"level": "WARNING"},
    },
}

# django-q2 carries wake-ups only, so nothing of it is worth keeping: results are not saved and a
# failed wake-up is not repeated (the loops send the next one). Numbers of workers, timeouts and
# queue names are set by buffer.workers for each command.
Q_CLUSTER = {
    "name": "endpoint",
    "workers": 1,
    "queue_limit": 1,
    "bulk": 1,
    "timeout": 90,
    "retry": 330,
    "max_attempts": 1,
    "ack_failures": True,
    "save_limit": -1,
    "guard_cycle": 0.5,
    "poll": 0.2,
    "catch_up": False,
    "scheduler": False,
    "recycle": 100_000,
}
Q_BROKER_URL = env.str("Q_BROKER_URL", default="")
if Q_BROKER_URL:
    Q_CLUSTER["redis"] = Q_BROKER_URL
else:
    Q_CLUSTER["orm"] = "default"
    Q_CLUSTER["broker_class"] = "buffer.broker.DatabaseBroker"
