"""What config/ and docs/ have for those who run queues: it fits the code that it is about."""

import configparser
import json
import re
import select
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from persipubsub.cli import app as cli
from persipubsub.metrics import QueueCollector

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config"
CONTAINERS = CONFIG / "containers"
UNITS = sorted((CONFIG / "systemd").iterdir())

EXPORTED = {
    family.name + ("_total" if family.type == "counter" else ""): family for family in QueueCollector({}).describe()
}
ALERTS = [
    rule
    for group in yaml.safe_load((CONFIG / "prometheus/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARD = json.loads((CONFIG / "grafana/dashboard.json").read_text())
PANELS = DASHBOARD["panels"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]


def metrics_in(expression: str) -> set[str]:
    """Return the metrics of an expression that Prometheus would accept."""
    promql_parser.parse(expression.replace("$__rate_interval", "5m"))
    return set(re.findall(r"\bpersipubsub_\w+", expression))


# -- Prometheus and Grafana ------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ALERTS, ids=[rule["alert"] for rule in ALERTS])
def test_alerts(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    names = metrics_in(rule["expr"])
    assert names
    assert names <= set(EXPORTED)
    assert rule["labels"]["severity"] in ("warning", "critical")
    # What the texts name, every figure of the expression has.
    wanted = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert "queue" in wanted
    for name in names:
        assert wanted <= set(EXPORTED[name]._labelnames)
    if "for" in rule:
        promql_parser.parse_duration(rule["for"])


def test_alert_names_are_unique() -> None:
    assert len({rule["alert"] for rule in ALERTS}) == len(ALERTS) >= 8


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_what_the_dashboard_shows_is_exported(expression: str) -> None:
    names = metrics_in(expression)
    assert names
    assert names <= set(EXPORTED)


def test_the_dashboard_is_whole() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            (name,) = {EXPORTED[name]._labelnames for name in list(metrics_in(target["expr"]))[:1]}
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= set(name)
        assert [target["refId"] for target in panel["targets"]] == list("ABCDEFGH"[: len(panel["targets"])])
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in PANELS)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    query = next(each for each in DASHBOARD["templating"]["list"] if each["name"] == "queue")["query"]["query"]
    assert query == "label_values(persipubsub_up, queue)"
    # Nothing that can be watched is left out, but for what is no figure to be plotted.
    shown = set().union(*map(metrics_in, EXPRESSIONS))
    left_out = {name for name in set(EXPORTED) - shown if not name.endswith("_timestamp_seconds")}
    assert left_out == {"persipubsub_scrape_duration_seconds", "persipubsub_subscriber_paused"}


def test_the_page_lists_all_metrics() -> None:
    listed = {}
    for line in (ROOT / "docs/monitoring.rst").read_text().splitlines():
        found = re.fullmatch(r"``(persipubsub_\w+)``  +(\w+(?:, \w+)*)  +(\S.*\.)", line)
        if found:
            listed[found[1]] = (found[2], found[3])
    assert listed == {name: (", ".join(family._labelnames), family.documentation) for name, family in EXPORTED.items()}


def test_the_page_about_logging_lists_all_events() -> None:
    page = (ROOT / "docs/logging.rst").read_text()
    events = re.findall(r'"event": "(\w+)"', (ROOT / "persipubsub/engine/events.py").read_text())
    fields = re.findall(r'"(\w+)": (?!")', (ROOT / "persipubsub/engine/events.py").read_text())
    for name in {*events, *fields}:
        assert f"``{name}``" in page


# -- systemd ---------------------------------------------------------------------------------------


def check_command(command: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    """Check that our command line knows a command and its options."""
    assert Path(command[0]).name == "persipubsub"
    assert cli.run([command[1], "--help"]) == 0
    known = capfd.readouterr().out
    for option in (argument for argument in command[2:] if argument.startswith("-")):
        assert f"{option} " in known


def units_of(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(path.read_text())
    return parser


@pytest.mark.parametrize("path", UNITS, ids=[path.name for path in UNITS])
def test_units(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    unit = units_of(path)
    assert unit.sections() == ["Unit", "Service", "Install"]
    check_command(shlex.split(unit["Service"]["ExecStart"]), capfd)
    for other in unit["Unit"].get("After", "").split():
        assert (path.parent / other).exists()


def test_the_stop_of_a_worker_waits_for_its_handlers() -> None:
    service = units_of(CONFIG / "systemd/persipubsub-worker@.service")["Service"]
    grace = re.search(r"--grace (\d+)", service["ExecStart"])
    assert grace is not None
    assert int(service["TimeoutStopSec"]) > int(grace[1])


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    """Where systemd is: it knows every section and key."""
    names = []
    for path in UNITS:
        name = path.name.replace("@.", "@billing.")
        (tmp_path / path.name).write_text(re.sub(r"/opt/app/bin/persipubsub", sys.executable, path.read_text()))
        names.append(str(tmp_path / name))
    assert len(names) == 4
    if shutil.which("systemd-analyze"):
        found = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", *names], capture_output=True, text=True, timeout=60
        )
        assert (found.returncode, found.stderr) == (0, "")


# -- containers ------------------------------------------------------------------------------------

COMPOSE = yaml.safe_load((CONTAINERS / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def test_the_compose_file_is_sound(capfd: pytest.CaptureFixture[str]) -> None:
    assert {key for key in COMPOSE if not key.startswith("x-")} == {"name", "services", "volumes"}
    keys = {"build", "command", "depends_on", "image", "init", "pid", "restart", "stop_grace_period", "volumes"}
    users = {name: service for name, service in SERVICES.items() if "volumes" in service}
    assert len(users) == 3
    for name, service in SERVICES.items():
        assert set(service) <= keys
        assert service["image"] == "persipubsub-example"
        for other, how in service.get("depends_on", {}).items():
            assert other in SERVICES
            assert how["condition"] in ("service_started", "service_completed_successfully")
        for volume in service.get("volumes", ()):
            source, _, target = volume.partition(":")
            assert source in COMPOSE["volumes"]
            assert target == "/var/lib/persipubsub"
        if service["command"][0] == "persipubsub":
            check_command(service["command"], capfd)
        # All that use a queue share a namespace of process ids, which outlives each of them.
        assert (service.get("pid") == "service:pids") == (name in users)
    assert SERVICES["pids"]["command"] == ["sleep", "infinity"]
    dockerfile = (CONTAINERS / "Dockerfile").read_text()
    for needed in ("queues.json", "camera.py", "counting.py"):
        assert (CONTAINERS / needed).exists()
        assert re.search(rf"^COPY .*\b{needed}\b", dockerfile, re.MULTILINE)
    assert "persipubsub[cli" in dockerfile


def test_the_containers_do_their_work(tmp_path: Path) -> None:
    """The commands of the compose file, without the containers around them."""
    (tmp_path / "queues.json").write_text((CONTAINERS / "queues.json").read_text().replace("/var/lib/persipubsub", "."))
    script = "from persipubsub.cli import main; main()"

    def start(name: str) -> subprocess.Popen[str]:
        command = [
            part.replace("/app/queues.json", str(tmp_path / "queues.json"))
            .replace("/app", str(CONTAINERS))
            .replace("/var/lib/persipubsub", str(tmp_path))
            for part in SERVICES[name]["command"]
        ]
        program = [sys.executable, "-c", script] if command[0] == "persipubsub" else [sys.executable]
        return subprocess.Popen([*program, *command[1:]], cwd=CONTAINERS, stdout=subprocess.PIPE, text=True)

    deploy = start("deploy")
    deploy.communicate(timeout=60)
    assert deploy.returncode == 0
    camera, counting = start("camera"), start("counting")
    try:
        assert counting.stdout is not None
        assert select.select([counting.stdout], [], [], 60)[0], "no frame was handled"
        assert counting.stdout.readline() == "frame 1 of left: 0 bright pixels\n"
    finally:
        camera.kill()
        counting.terminate()
        for process in (camera, counting):
            process.communicate(timeout=60)
    assert counting.returncode == 0
