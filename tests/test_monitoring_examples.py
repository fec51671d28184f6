"""The examples for Prometheus and Grafana fit what the program exports."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from django.test import Client

DIRECTORY = Path(__file__).resolve().parent.parent / "docs" / "monitoring"
RULES, DASHBOARD = DIRECTORY / "endpoint.rules.yaml", DIRECTORY / "dashboard.json"
GUIDE = DIRECTORY.parent / "monitoring.md"

UP = 'up{job="endpoint"}'
FINDER = 'endpoint_component_up{component="finder",subject="/b",host="h"}'
STOPPED = 'endpoint_component_stopped{component="finder",subject="/b",host="h"}'
INGESTER = 'endpoint_component_up{component="ingester",subject="t",host="h"}'
WAITING = 'endpoint_waiting_files{ingester="t"}'


def exported(client: Client) -> set[str]:
    """Names of all series, those without a sample too."""
    text = client.get("/metrics").content.decode()
    names = set()
    for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", text, flags=re.MULTILINE):
        histogram = {f"{name}_bucket", f"{name}_count", f"{name}_sum"}
        names |= histogram if kind == "histogram" else {name}
    return names


def named(text: str) -> set[str]:
    # The variable parts of a dashboard and its own names are no series.
    return set(re.findall(r"\bendpoint_\w+", text))


@pytest.mark.django_db
@pytest.mark.parametrize("path", [RULES, DASHBOARD], ids=lambda path: path.name)
def test_examples_name_series_that_there_are(client: Client, path: Path) -> None:
    series = named(path.read_text(encoding="utf-8"))
    assert len(series) > 7
    assert series <= exported(client)


@pytest.mark.django_db
def test_the_guide_names_every_series(client: Client) -> None:
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in exported(client)}
    rows = re.findall(r"^\| `(endpoint_\w+)` \|", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert set(rows) == families


def test_rules_are_valid() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool (Debian's package prometheus) is not installed")
    done = subprocess.run(
        [str(promtool), "check", "rules", str(RULES)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"SUCCESS: \d\d rules found", done.stdout)


def test_expressions_of_the_dashboard_are_valid(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool (Debian's package prometheus) is not installed")
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    rules = [{"record": f"r{n}", "expr": expr} for n, expr in enumerate(expressions)]
    file = tmp_path / "rules.json"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(
        [str(promtool), "check", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(expressions)} rules found" in done.stdout


#: Series of some minutes, and the alerts that stand at their end beside those that are to be.
DEATHS = {
    "all is well": ({UP: 1, FINDER: 1, INGESTER: 1, WAITING: 5}, set()),
    "one is killed": ({UP: 1, FINDER: 0, STOPPED: 0, INGESTER: 1}, {"EndpointComponentSilent"}),
    "one is stopped": ({UP: 1, FINDER: 0, STOPPED: 1, INGESTER: 1}, set()),
    "all are killed": (
        {UP: 1, FINDER: 0, STOPPED: 0, INGESTER: 0, WAITING: 5},
        {"EndpointComponentSilent", "EndpointNothingRuns", "EndpointFilesWaitForNobody"},
    ),
    "none was ever started": ({UP: 1}, {"EndpointNothingRuns"}),
    "the web server is killed": ({UP: 0}, {"EndpointNotScraped"}),
}


@pytest.mark.parametrize("death", DEATHS)
def test_nothing_dies_unnoticed(death: str, tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool (Debian's package prometheus) is not installed")
    series, standing = DEATHS[death]
    names = ("EndpointNotScraped", "EndpointComponentSilent", "EndpointNothingRuns",
             "EndpointFilesWaitForNobody")  # fmt: skip
    # An expression tells what stands whatever its labels and texts are.
    expected = [
        {
            "expr": f'count by (alertname) (ALERTS{{alertname="{name}",alertstate="firing"}})',
            "eval_time": "10m",
            "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1}]
            if name in standing
            else [],
        }
        for name in names
    ]
    file = tmp_path / "test.json"
    inputs = [{"series": name, "values": f"{value}x20"} for name, value in series.items()]
    tests = [{"interval": "30s", "input_series": inputs, "promql_expr_test": expected}]
    file.write_text(json.dumps({"rule_files": [str(RULES)], "tests": tests}))
    done = subprocess.run(
        [promtool, "test", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
