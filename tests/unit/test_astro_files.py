"""Astro reads these files by its own rules: parse each the same way, without Docker.

Source: astro-cli, docker/parse.go, settings/types.go, config/config.go, pkg/airflowrt.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from include.chimera.local.servers.environment import MALLOC
from include.chimera.operations.dbt_manifest import parse_command
from include.chimera.paths import PROJECT
from include.chimera.settings import Settings
from scripts.generate_docs import INTERNAL, PREFIX, shown_default

CONNECTION_KEYS = {
    "conn_id", "conn_type", "conn_host", "conn_schema", "conn_login", "conn_port", "conn_uri",
    "conn_extra",
}  # fmt: skip
POOL_KEYS = {"pool_name", "pool_slot", "pool_description"}
VARIABLE_KEYS = {"variable_name", "variable_value"}
AIRFLOW_SERVICES = {"scheduler", "dag-processor", "api-server", "triggerer"}
OF_ASTRO = {*AIRFLOW_SERVICES, "db-migration"}
SWITCHES = {
    "DBT_SEND_ANONYMOUS_USAGE_STATS", "DBT_USE_COLORS", "DO_NOT_TRACK", "GX_ANALYTICS_ENABLED",
    "SCARF_NO_ANALYTICS",
}  # fmt: skip
BY_OTHERS = {"AWS_ENDPOINT_URL", "AWS_ALLOW_HTTP", "AWS_REGION", "OTEL_EXPORTER_OTLP_ENDPOINT"}
# Sections of Airflow's configuration that a provider reads by itself.
PROVIDER_OPTIONS = {"AIRFLOW__COSMOS__CACHE_DIR", "AIRFLOW__COSMOS__ENABLE_TELEMETRY"}
SECRET = re.compile(r"pass(word|wd)?|secret|token|api_?key|://[^/@\s]*:[^/@\s]*@", re.IGNORECASE)
REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?(==(\S+)|[<>~!][^#]*)?$")


def text(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")


def document(name: str) -> Any:
    return yaml.safe_load(text(name))


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """Split a Dockerfile into (command, arguments), continuation lines joined."""
    joined = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", dockerfile, flags=re.MULTILINE))
    return [
        (command.upper(), " ".join(rest.split()))
        for command, _, rest in (line.partition(" ") for line in joined.splitlines() if line)
    ]


def requirements(name: str = "requirements.txt") -> dict[str, str | None]:
    """Return package -> exact version (None: not pinned), failing on lines of another form."""
    found = {}
    for line in text(name).splitlines():
        if line and not line.startswith(("#", "-r ")):
            match = REQUIREMENT.match(line)
            assert match, line
            found[match[1].lower()] = match[3]
    return found


def override() -> Any:
    return document("docker-compose.override.yml")


def env_example() -> dict[str, tuple[str, bool]]:
    """Return name -> (value, active) as astro's LoadEnvFile splits lines; comments are inactive."""
    found = {}
    for line in text(".env.example").splitlines():
        match = re.match(r"^(# )?([A-Z][A-Z0-9_]+)=(.*)$", line)
        if match:
            assert match[2] not in found, f"{match[2]} stands twice"
            found[match[2]] = (match[3], match[1] is None)
        else:
            assert not line or line.startswith("#"), line
    return found


def ignored(path: str) -> bool:
    """Apply .dockerignore as Docker does: anchored patterns, which cover what is below them."""
    patterns = [
        line for line in text(".dockerignore").splitlines() if line and not line.startswith("#")
    ]
    ancestors = [Path(path), *Path(path).parents]
    return any(
        re.fullmatch(
            re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*"), str(part)
        )
        for pattern in patterns
        for part in ancestors
    )


def test_dockerfile_starts_from_the_runtime_of_our_airflow_and_python():
    images = [rest for command, rest in instructions(text("Dockerfile")) if command == "FROM"]
    # Standalone mode reads the first FROM, an image build uses the last: let there be one.
    assert len(images) == 1
    match = re.fullmatch(
        r"astrocrpublic\.azurecr\.io/runtime:(\d+\.\d+)-\d+-python-(\d+\.\d+)", images[0]
    )
    assert match, images[0]
    airflow = requirements("requirements-dev.txt")["apache-airflow"]
    assert airflow is not None
    assert airflow.startswith(f"{match[1]}.")
    assert match[2] == "3.12"


def test_dockerfile_builds_the_manifest_with_the_flags_of_cosmos_as_astro():
    steps = instructions(text("Dockerfile"))
    assert steps[-1] == ("RUN", "python -m include.chimera manifest")
    assert "--no-static-parser" in parse_command(PROJECT)
    assert any(".airflow-dbt" in rest for _, rest in steps[:-1]), "a folder that astro may write to"
    users = [rest for command, rest in steps if command == "USER"]
    assert users[-1] == "astro"


def test_dockerfile_compiles_packages_that_exist():
    compile_step = next(
        rest for _, rest in instructions(text("Dockerfile")) if "compileall" in rest
    )
    packages = compile_step.split(" -j 0 ")[1].split()
    assert "great_expectations" in packages
    assert not [name for name in packages if importlib.util.find_spec(name) is None]


def test_requirements_leave_airflow_to_the_runtime():
    assert not {"apache-airflow", "apache-airflow-core"} & requirements().keys()


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_pins_are_those_of_the_lock(name):
    lock = dict(
        re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==([^\s;\\]+)", text("constraints.txt"), re.MULTILINE)
    )
    for package, pin in requirements(name).items():
        assert package in lock
        assert pin in (None, lock[package]), package


def test_packages_are_debian_names_one_a_line():
    for line in text("packages.txt").splitlines():
        assert re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", line), line


def test_airflow_settings_hold_only_what_astro_reads_and_no_secret():
    settings = document("airflow_settings.yaml")
    assert settings.keys() == {"airflow"}
    sections = settings["airflow"]
    assert sections.keys() <= {"connections", "pools", "variables"}
    for section, keys in (
        ("connections", CONNECTION_KEYS),
        ("pools", POOL_KEYS),
        ("variables", VARIABLE_KEYS),
    ):
        for entry in sections.get(section, []):
            assert entry.keys() <= keys
            assert not SECRET.search(yaml.safe_dump(entry))
    assert [entry["conn_id"] for entry in sections["connections"]] == [
        "app_db",
        "prometheus",
        "smtp_default",
    ]
    assert all(isinstance(entry["conn_port"], int) for entry in sections["connections"])
    slots = {entry["pool_name"]: entry["pool_slot"] for entry in sections["pools"]}
    assert slots == {"app_db": 3, "duckdb": 4}
    # The command line quotes a description with ' when it calls `airflow pools set`.
    assert not any("'" in entry["pool_description"] for entry in sections["pools"])


def test_astro_config_names_the_project_and_keeps_requirements_as_they_are():
    assert document(".astro/config.yaml") == {
        "project": {"name": "chimera"},
        "disable_astro_run": True,
        "postgres": {"tag": "16"},
    }


def test_no_dag_may_fail_to_import():
    lines = text(".astro/dag_integrity_exceptions.txt").splitlines()
    assert not [line for line in lines if line and not line.startswith("#")]


def test_env_example_shows_each_setting_with_its_default():
    shown = {
        name: (value, active)
        for name, (value, active) in env_example().items()
        if name.startswith(PREFIX)
    }
    fields = {name: field for name, field in Settings.model_fields.items() if name not in INTERNAL}
    assert shown == {
        f"{PREFIX}{name.upper()}": (shown_default(field.default), False)
        for name, field in fields.items()
    }


def test_env_example_defaults_are_read_back_as_the_defaults(monkeypatch):
    for name, field in Settings.model_fields.items():
        variable = f"{PREFIX}{name.upper()}"
        monkeypatch.delenv(variable, raising=False)
        value, _ = env_example().get(variable, ("", False))
        # An empty value means "not set"; only texts may be set to nothing.
        if value or str in (field.annotation, *get_args(field.annotation)):
            monkeypatch.setenv(variable, value.replace("<project>", str(PROJECT)))
    assert Settings() == Settings.model_construct()


def test_env_example_holds_only_settings_airflow_options_and_switches():
    origin = importlib.util.find_spec("airflow").submodule_search_locations[0]
    options = yaml.load(
        Path(origin, "config_templates", "config.yml").read_text(encoding="utf-8"),
        Loader=yaml.CSafeLoader,
    )
    known = {
        f"AIRFLOW__{section}__{option}".upper()
        for section, content in options.items()
        for option in content["options"]
    }
    for name, (value, _) in env_example().items():
        assert not SECRET.search(f"{name}={value}")
        if not name.startswith((PREFIX, "AIRFLOW_CONN_")):
            assert name in known | PROVIDER_OPTIONS | SWITCHES | BY_OTHERS | MALLOC.keys(), name


def test_a_copy_of_env_example_serves_standalone_mode_and_harms_no_container():
    active = {name for name, (_, is_active) in env_example().items() if is_active}
    standalone = {
        "AIRFLOW__API__HOST", "AIRFLOW__CORE__PLUGINS_FOLDER", "AIRFLOW__COSMOS__CACHE_DIR",
    }  # fmt: skip
    assert standalone <= active
    for service in AIRFLOW_SERVICES:
        assert standalone <= override()["services"][service]["environment"].keys()
    assert not [name for name in active if "STATSD" in name or name.startswith("AIRFLOW_CONN_")]


def test_image_and_env_example_set_the_same_variables():
    """Telemetry off, and the memory ceiling that the embedded default has."""
    env = next(rest for command, rest in instructions(text("Dockerfile")) if command == "ENV")
    image = dict(pair.split("=") for pair in env.split())
    example = {name: value for name, (value, _) in env_example().items()}
    telemetry = {"AIRFLOW__COSMOS__ENABLE_TELEMETRY"}
    assert image.keys() == SWITCHES | telemetry | MALLOC.keys()
    assert image.items() >= MALLOC.items()
    assert image.items() <= example.items()


@pytest.mark.parametrize(
    "path",
    [
        ".chimera/lake/bronze", ".venv/bin/python", ".git/config", "tests/unit/test_window.py",
        ".env", "airflow_settings.yaml", "include/dbt/target/manifest.json",
        ".airflow-dbt/target/manifest.json", "include/chimera/__pycache__/paths.pyc",
        "docs/bench.svg", "docs/quality-report.png",
    ],
)  # fmt: skip
def test_image_does_not_carry(path):
    assert ignored(path)


@pytest.mark.parametrize(
    "path",
    [
        "include/chimera/settings.py", "include/dbt/dbt_project.yml", "include/gx/gx.yml",
        "include/chimera/lake/delta/tables.py", "dags/chimera_etl_hourly.py",
        "plugins/warm_start.py", "requirements.txt", "packages.txt", "pyproject.toml",
        ".astro/config.yaml", "docs/runbook.md", "docs/adr/0001-stage-gate-commit.md",
    ],
)  # fmt: skip
def test_image_carries(path):
    assert not ignored(path)


def test_compose_override_adds_services_that_astro_can_join():
    services = override()["services"]
    for name, service in services.items():
        if name not in OF_ASTRO:
            assert service["networks"] == ["airflow"], name
        for port in service.get("ports", []):
            host, published, _ = re.sub(r"\$\{\w+:-(\w+)\}", r"\1", port).split(":")
            assert host == "127.0.0.1"
            assert published not in {"5432", "8080"}
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in override()["volumes"] or (PROJECT / source).exists(), volume
        # astro builds one image, the project's, and tags it with a hash: nothing here can name it.
        assert "build" not in service
        if name in OF_ASTRO:
            assert "image" not in service
        else:
            tag = re.fullmatch(r"[\w./-]+:\$\{[A-Z_]+_TAG:-([^}]+)\}", service["image"])
            assert tag, service["image"]
            assert re.search(r"\d", tag[1]), "a pinned image"
    variables = re.findall(r"\$\{[^}]*\}", text("docker-compose.override.yml"))
    assert all(re.fullmatch(r"\$\{[A-Z_]+:-[^}]+\}", variable) for variable in variables)


def test_no_component_waits_for_the_end_of_the_service_that_goes_on_as_the_sample():
    services = override()["services"]
    assert (
        "exec python -m include.chimera.local.sample_service"
        in services["db-migration"]["command"][-1]
    )
    for name in AIRFLOW_SERVICES:
        assert services[name]["depends_on"] == {"db-migration": {"condition": "service_started"}}


def test_page_names_where_each_service_of_the_override_listens():
    page = text("docs/astro.md")
    for name, service in document("docker-compose.override.yml")["services"].items():
        if name not in OF_ASTRO:
            (row,) = re.findall(rf"^\| `{name}` \|.*", page, re.MULTILINE)
            told = re.findall(r"127\.0\.0\.1:(\d+)\S* \| `(\w+)`", row)
            assert [f"${{{variable}:-{port}}}" for port, variable in told] == [
                port.split(":", 1)[1].rsplit(":", 1)[0] for port in service.get("ports", [])
            ], name


def test_compose_override_serves_the_connections_of_the_settings_file():
    """The names that tasks ask for lead to the services of the sample application."""
    services = override()["services"]
    app_db, prometheus, _ = document("airflow_settings.yaml")["airflow"]["connections"]
    environment = services[app_db["conn_host"]]["environment"]
    assert environment["POSTGRES_DB"] == app_db["conn_schema"]
    assert environment["POSTGRES_USER"] == app_db["conn_login"]
    sample = services["db-migration"]
    uri = f"postgresql://{app_db['conn_login']}@{app_db['conn_host']}/{app_db['conn_schema']}"
    assert f"--app-db {uri} " in sample["command"][-1]
    assert sample["command"][-1].endswith(f"--host 0.0.0.0 --port {prometheus['conn_port']}")
    assert prometheus["conn_host"] == f"http://{sample['networks']['airflow']['aliases'][0]}"
    # Its logs and the lake are in the volume that the tasks have too.
    assert all(services[name]["volumes"][0] == sample["volumes"][0] for name in AIRFLOW_SERVICES)


def test_monitoring_services_find_each_other():
    """Each address in the monitoring files names a service of the override file, or loopback."""
    services = document("docker-compose.override.yml")["services"]
    names = services.keys() | {"localhost"}
    statsd = services["scheduler"]["environment"]["AIRFLOW__METRICS__STATSD_HOST"]
    prometheus = document("include/monitoring/prometheus.yml")
    targets = [
        target
        for part in (*prometheus["scrape_configs"], *prometheus["alerting"]["alertmanagers"])
        for config in part["static_configs"]
        for target in config["targets"]
    ]
    mailer = document("include/monitoring/alertmanager.yml")["global"]["smtp_smarthost"]
    source = document("include/monitoring/grafana/provisioning/datasources/prometheus.yml")
    url = source["datasources"][0]["url"].removeprefix("http://")
    for address in (*targets, mailer, url):
        host, _, port = address.partition(":")
        assert host in names, address
        assert port.isdigit(), address
    assert statsd in names
    mails = document("airflow_settings.yaml")["airflow"]["connections"][2]
    assert f"{mails['conn_host']}:{mails['conn_port']}" == mailer


def test_monitoring_files_are_mounted_where_their_readers_look():
    services = document("docker-compose.override.yml")["services"]
    mounts = {
        target: source
        for service in services.values()
        for source, target, *_ in (volume.split(":") for volume in service.get("volumes", []))
    }
    mapping = services["statsd-exporter"]["command"][0].partition("=")[2]
    assert mounts[mapping] == "./include/monitoring/statsd_mapping.yml"
    rules = document("include/monitoring/prometheus.yml")["rule_files"]
    assert [mounts[f"/etc/prometheus/{name}"] for name in rules] == [
        f"./include/monitoring/{name}" for name in rules
    ]
    provider = document("include/monitoring/grafana/provisioning/dashboards/chimera.yml")
    folder = provider["providers"][0]["options"]["path"]
    assert f"{folder}/chimera.json" in mounts
    receivers = document("include/monitoring/alertmanager.yml")
    assert receivers["route"]["receiver"] in {each["name"] for each in receivers["receivers"]}
