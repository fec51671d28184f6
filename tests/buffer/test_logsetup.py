from __future__ import annotations

import io
import logging
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from buffer import logsetup
from buffer.config import ConfigError
from buffer.redaction import redact
from buffer.sections import Logging

URL = "postgres://tester:hunter2@localhost:5432/test"


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Put the process's logging back as it was."""
    root, queue = logging.getLogger(), logging.getLogger("django-q")
    kept = (root.handlers[:], root.level, queue.handlers[:], queue.propagate)
    yield
    logging.captureWarnings(False)
    for handler in root.handlers:
        if handler not in kept[0]:
            handler.close()
    root.handlers[:], root.level, queue.handlers[:], queue.propagate = kept
    root.setLevel(kept[1])


def formatted(message: str, *args: Any, **keywords: Any) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logsetup.LineFormatter("%(levelname)s:%(message)s"))
    handler.addFilter(logsetup.HideSecrets())
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.error(message, *args, **keywords)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nCRITICAL:forged", r"a\x0aCRITICAL:forged"),
        ("a\r\x1b[31m\x9b\x7f\t", r"a\x0d\x1b[31m\x9b\x7f\x09"),
        ("\u2028\u2029\u202e\u2066", r"\u2028\u2029\u202e\u2066"),
        ("\udcff", r"\udcff"),
        ("é 你 \\ ok", "é 你 \\ ok"),
    ],
)
def test_no_record_breaks_its_line(text: str, expected: str) -> None:
    assert formatted("%s", text) == f"ERROR:{expected}\n"


def test_a_traceback_is_indented_and_cannot_forge_a_record() -> None:
    try:
        raise ValueError(f"bad\nERROR:forged\r\x1b {URL}")
    except ValueError:
        text = formatted("failed", exc_info=True, stack_info=True)
    first, *others = text.rstrip("\n").split("\n")
    assert first == "ERROR:failed"
    assert all(line.startswith("    ") for line in others)
    assert "    ERROR:forged\\x0d\\x1b postgres://tester:***@localhost" in text


def test_another_handlers_traceback_is_not_reused() -> None:
    record = logging.LogRecord("a", logging.ERROR, "p", 1, "m", None, None)
    record.exc_text = "raw\x1b"
    assert "raw" not in logsetup.LineFormatter("%(message)s").format(record)
    assert record.exc_text == "raw\x1b"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (URL, "postgres://tester:***@localhost:5432/test"),
        (f"a {URL}, {URL}", None),
        ("sqlite:////data/a.db", "sqlite:////data/a.db"),
        ("postgresql+psycopg2://u:p@ss/w@h/d", "postgresql+psycopg2://u:***@h/d"),
        ("redis://:hunter2@h:6379/0", "redis://:***@h:6379/0"),
        ("dbname=a password=hunter2 host=b", "dbname=a password=*** host=b"),
        ("dbname=a password='hunter2 x' host=b", "dbname=a password=*** host=b"),
        ('{"password": "hunter2", "a": 1}', '{"password": ***, "a": 1}'),
        ("{'db_password': 'hunter2'}", "{'db_password': ***}"),
        ("?sslmode=require&sslpassword=hunter2&a=1", "?sslmode=require&sslpassword=***&a=1"),
        ("http://host:80/path?x=1", "http://host:80/path?x=1"),
        ("password authentication failed", "password authentication failed"),
        ("/data/password/x: file", "/data/password/x: file"),
    ],
)
def test_redaction(text: str, expected: str | None) -> None:
    assert "hunter2" not in redact(text)
    if expected is not None:
        assert redact(text) == expected
        assert formatted("%s", text) == f"ERROR:{expected}\n"


def test_the_filter_hides_secrets_from_any_formatter() -> None:
    record = logging.LogRecord("a", logging.INFO, "p", 1, "to %s and %d", (URL, 3), None)
    assert logsetup.HideSecrets().filter(record)
    assert record.getMessage() == "to postgres://tester:***@localhost:5432/test and 3"
    plain = logging.LogRecord("a", logging.INFO, "p", 1, "to %s", ("x",), None)
    assert logsetup.HideSecrets().filter(plain)
    assert plain.args == ("x",)


def test_a_record_whose_arguments_do_not_fit_is_still_written() -> None:
    text = formatted("%d %s", URL)
    assert "do not fit" in text
    assert "hunter2" not in text


def test_standard_error_and_level(capsys: pytest.CaptureFixture[str]) -> None:
    logsetup.setup(Logging.model_validate({"level": "warning"}))
    logging.getLogger("some.module").info("quiet")
    logging.getLogger("some.module").warning("loud\nline")
    line = capsys.readouterr().err
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z:some\.module:WARNING:loud\\x0aline\n", line
    )


BROKEN_PAGE = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "endpoint_site.settings"
import django
django.setup()
from django.core.handlers import exception
from django.test import RequestFactory
def view(request):
    raise RuntimeError("postgres://tester:hunter2@localhost/test")
request = RequestFactory().get("/admin/%1b[31m/")
print(exception.convert_exception_to_response(view)(request).status_code)
if len(sys.argv) > 1:
    from buffer import config, logsetup
    logsetup.setup(config.Logging())
    exception.convert_exception_to_response(view)(request)
"""


def test_a_page_that_fails_leaves_its_traceback_in_the_log_of_the_web_server() -> None:
    environment = {**os.environ, "SECRET_KEY": "of this test", "DATABASE_URL": "sqlite://:memory:"}
    done = subprocess.run(
        [sys.executable, "-c", BROKEN_PAGE], env=environment, capture_output=True, text=True
    )
    assert done.stdout == "500\n"
    assert ":django.request:ERROR:Internal Server Error: /admin/\\x1b[31m/" in done.stderr
    assert done.stderr.count("RuntimeError: postgres://tester:***@localhost/test") == 1
    assert "in view" in done.stderr
    again = subprocess.run(
        [sys.executable, "-c", BROKEN_PAGE, "set up"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert again.stderr.count("RuntimeError") == 2, "a component's own handler replaces it"


def test_setup_again_replaces_the_handler(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        logsetup.setup(Logging())
    logging.getLogger("a").info("once")
    assert capsys.readouterr().err.count("once") == 1


def test_libraries_use_our_handler(capsys: pytest.CaptureFixture[str]) -> None:
    queue = logging.getLogger("django-q")
    queue.propagate = False
    queue.addHandler(logging.StreamHandler(sys.stdout))
    logsetup.setup(Logging())
    queue.error("from %s", URL)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("deprecated thing", stacklevel=1)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "postgres://tester:***@" in captured.err
    assert "deprecated thing" in captured.err


def test_a_file_that_is_moved_away_is_begun_anew(tmp_path: Path) -> None:
    file = tmp_path / "finder.log"
    logsetup.setup(Logging.model_validate({"file": str(file)}))
    logger = logging.getLogger("a")
    logger.info("first %s", "\udcff")
    file.rename(tmp_path / "old")
    logger.info("second")
    assert "first \\udcff" in (tmp_path / "old").read_text(encoding="utf-8")
    assert "second" in file.read_text(encoding="utf-8")


def handler(**keys: Any) -> logging.FileHandler:
    made = logsetup._handler(Logging.model_validate(keys))
    assert isinstance(made, logging.FileHandler)
    made.setFormatter(logging.Formatter("%(message)s"))
    return made


def emit(to: logging.Handler, text: str) -> None:
    to.handle(logging.LogRecord("a", logging.INFO, "p", 1, text, None, None))


def test_rotation_by_size_with_two_processes(tmp_path: Path) -> None:
    keys = {"file": str(tmp_path / "log"), "rotate": "SIZE", "maxbytes": 100, "backup_count": 50}
    one, two = handler(**keys), handler(**keys)
    for at in range(60):
        emit(one if at % 2 else two, f"{at:04d} {'x' * 20}")
    one.close()
    two.close()
    files = [path for path in tmp_path.iterdir() if path.suffix != ".lock"]
    assert max(path.stat().st_size for path in files) <= 126
    lines = [line[:4] for path in files for line in path.read_text().splitlines()]
    assert sorted(lines) == [f"{at:04d}" for at in range(60)]


def test_rotation_by_time_with_two_processes(tmp_path: Path) -> None:
    # An hour, which does not end by itself while the test runs, as a second may.
    keys = {"file": str(tmp_path / "log"), "rotate": "time", "when": "h", "backup_count": 9}
    one, two = handler(**keys), handler(**keys)
    emit(one, "first")
    one.rolloverAt = two.rolloverAt = 0  # type: ignore[attr-defined]
    emit(one, "second")
    emit(two, "third")
    one.close()
    two.close()
    old = [path for path in tmp_path.iterdir() if path.name not in ("log", "log.lock")]
    assert [path.read_text() for path in old] == ["first\n"]
    assert (tmp_path / "log").read_text() == "second\nthird\n"


def test_a_log_file_that_cannot_be_written(tmp_path: Path) -> None:
    for file, expected in [
        (tmp_path / "gone" / "log", "there is no directory"),
        (tmp_path, "is a directory"),
    ]:
        section = Logging.model_validate({"file": str(file)})
        [problem] = logsetup.check(section)
        assert problem.startswith("logging.file: ")
        assert expected in problem
        with pytest.raises(ConfigError, match=r"logging\.file: .* cannot be written to"):
            logsetup.setup(section)


def test_checking_makes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = Logging.model_validate({"file": str(tmp_path / "log")})
    assert logsetup.check(section) == []
    assert logsetup.check(Logging()) == []
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "cannot be written to by this user" in logsetup.check(section)[0]
