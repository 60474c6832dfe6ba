"""The files of deploy/ hold together: Compose's own schema, the Dockerfile, units and settings. No Docker is needed."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from resources.settings import PROJECT_ROOT, SETTINGS
from tests.compose import FOLDER, Compose, env_file, interpolate

UNITS = PROJECT_ROOT / "deploy" / "systemd"
SECRETS = {
    "DATABASE_PASSWORD": "a1", "DAGSTER_DATABASE_PASSWORD": "b2", "CACHE_PASSWORD": "c3", "S3_ACCESS_KEY": "d4",
    "S3_SECRET_KEY": "e5", "BACKUP_DATABASE_PASSWORD": "f6",
}  # fmt: skip
OURS = ("prepare", "wal", "code", "daemon", "webserver")


@pytest.fixture(scope="module")
def compose() -> Compose:
    return Compose.read(SECRETS)


def test_compose_yaml_is_what_the_compose_specification_allows() -> None:
    schema = json.loads((PROJECT_ROOT / "tests/data/compose-spec.json").read_text(encoding="utf-8"))
    document = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(document)
    document["services"]["code"]["comand"] = []
    with pytest.raises(jsonschema.ValidationError, match="comand"):
        jsonschema.Draft202012Validator(schema).validate(document)


def test_every_service_restarts_is_watched_and_waits_for_what_it_needs(compose: Compose) -> None:
    services = compose.document["services"]
    for name, service in services.items():
        assert service["restart"] in ("unless-stopped", "on-failure:5"), name
        assert "healthcheck" in service or name == "prepare", name
        assert re.search(r":[\w.-]*\d", service["image"]) or name in OURS, f"{name} pins no version"
        for needed, how in service.get("depends_on", {}).items():
            has_ended = how["condition"] == "service_completed_successfully"
            assert has_ended or "healthcheck" in services[needed], f"{name} waits for the health of {needed}"
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source.startswith("./") or source in compose.document["volumes"], volume


def test_only_the_ui_is_published_and_only_on_loopback(compose: Compose) -> None:
    published = {name: s["ports"] for name, s in compose.document["services"].items() if "ports" in s}
    assert published == {"webserver": ["127.0.0.1:3000:3000"]}
    assert compose.document["networks"]["data"] == {"internal": True}


def test_containers_of_ours_run_without_rights_on_a_read_only_image(compose: Compose) -> None:
    for name in OURS:
        service = compose.service(name)
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"]), name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_without_passwords_compose_refuses_and_says_what_to_run() -> None:
    with pytest.raises(ValueError, match=r"PASSWORD: run deploy/compose/new-env\.sh"):
        Compose.read({})
    assert interpolate("a $$HOME ${UI_PORT:-3000} ${X}", {}) == "a $HOME 3000 "


def test_no_secret_stands_in_a_file_of_the_repository() -> None:
    text = (FOLDER / "compose.yaml").read_text(encoding="utf-8")
    for name in ("PASSWORD", "SECRET_KEY", "ACCESS_KEY", "AUTH"):
        for value in re.findall(rf"^\s*\w*{name}: *(\S+)", text, re.MULTILINE):
            assert value.startswith(("${", '"${', "/run/secrets/")), value
    ignored = subprocess.run(
        ["git", "check-ignore", "deploy/compose/.env", "deploy/compose/secrets/postgres_password"],
        cwd=PROJECT_ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert len(ignored.stdout.split()) == 2, "git would take the secrets"


def test_new_env_writes_random_passwords_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    for name in (".env.example", "new-env.sh"):
        shutil.copy(FOLDER / name, tmp_path / name)
    command = ["sh", str(tmp_path / "new-env.sh")]
    subprocess.run(command, check=True, capture_output=True)
    written = env_file(tmp_path / ".env")
    passwords = [written[name] for name in SECRETS] + [(tmp_path / "secrets/postgres_password").read_text()]
    assert all(re.fullmatch(r"[0-9a-f]{48}", password) for password in passwords)
    assert len(set(passwords)) == 7
    assert [(tmp_path / name).stat().st_mode & 0o077 for name in (".env", "secrets")] == [0, 0]
    assert not [name for name in written if name.startswith("LONGBOX_")], "settings are comments until wanted"
    again = subprocess.run(command, capture_output=True, text=True)
    assert (again.returncode, env_file(tmp_path / ".env")) == (2, written)
    Compose.read(written)


def test_the_example_names_every_setting_and_no_other() -> None:
    text = (FOLDER / ".env.example").read_text(encoding="utf-8")
    assert re.findall(r"^# (LONGBOX_\w+)=", text, re.MULTILINE) == [setting.name for setting in SETTINGS]


def test_the_dockerfile_takes_what_exists_hashed_and_ends_without_root() -> None:
    lines = (FOLDER / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    steps = [line.split(None, 1) for line in lines if line and not line.startswith("#")]
    allowed = [
        line.removeprefix("!")
        for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    assert all((PROJECT_ROOT / name).exists() for name in allowed), allowed
    copied = [shlex.split(rest)[:-1] for word, rest in steps if word == "COPY" and "--from" not in rest]
    for source in (name for names in copied for name in names):
        assert source == "." or source in allowed, f"{source} is left out by Dockerfile.dockerignore"
    bases = [rest for word, rest in steps if word == "FROM"]
    assert all(base.startswith("python:${PYTHON}") for base in bases)
    assert [rest for word, rest in steps if word == "ARG"] == ["PYTHON=3.11-slim-bookworm"]
    assert [rest for word, rest in steps if word == "USER"] == ["10001:10001"]
    installs = [rest for word, rest in steps if word == "RUN" and "pip install" in rest]
    assert installs and all("--require-hashes" in rest for rest in installs)
    assert not re.search(
        r"(?i)password|secret|token", "\n".join(rest for word, rest in steps if word in ("ENV", "ARG"))
    )


def test_what_the_image_holds_is_enough_to_load_every_definition(tmp_path: Path) -> None:
    ignore = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignore[1] == "*" and {"**/.env", "**/secrets", "**/__pycache__"} <= set(ignore)
    left_out = shutil.ignore_patterns(".env", "secrets", "__pycache__")
    for name in (line.removeprefix("!") for line in ignore if line.startswith("!")):
        source = PROJECT_ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=left_out)
        else:
            shutil.copy(source, tmp_path / name)
    code = "import definitions, cli.main, deploy.prepare, sys; print(definitions.__file__, deploy.prepare.__file__)"
    loaded = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, capture_output=True, text=True,
        env={"PATH": "/usr/bin:/bin", "LONGBOX_HOME": str(tmp_path / "state"), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.split() == [str(tmp_path / "definitions.py"), str(tmp_path / "deploy/prepare.py")]
    assert (tmp_path / "deploy/workspace.yaml").is_file() and (tmp_path / "dagster.yaml").is_file()


def unit(name: str) -> dict[str, list[str]]:
    """The entries of a unit with its drop-in, sections left out."""
    found: dict[str, list[str]] = {}
    text = (UNITS / "longbox-.service.d/10-common.conf").read_text() + (UNITS / name).read_text()
    for line in text.splitlines():
        if "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize("service", OURS)
def test_a_unit_runs_what_the_container_runs(service: str, compose: Compose) -> None:
    entries = unit(f"longbox-{service}.service")
    in_order = [*entries.get("ExecStartPre", ()), *entries["ExecStart"]]
    inside = [part.replace("0.0.0.0", "127.0.0.1") for part in compose.command(service)]
    commands = [inside]
    if inside[:2] == ["sh", "-c"]:
        commands = [shlex.split(each.removeprefix("exec ")) for each in inside[2].split(" && ")]
    assert [shlex.split(command) for command in in_order] == [
        [f"/opt/longbox/.venv/bin/{program}", *rest] for program, *rest in commands
    ]
    assert entries["EnvironmentFile"] == ["/etc/longbox/longbox.env"]
    assert entries["User"] == ["longbox"]
    assert entries.get("Restart", ["on-failure"]) == ["on-failure"]
    assert "After" in entries


def test_systemd_itself_finds_no_fault_in_the_units(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed (apt-get install systemd): the units were only parsed")
    shutil.copytree(UNITS, tmp_path / "units")
    venv = PROJECT_ROOT / ".venv/bin"
    for file in (tmp_path / "units").glob("*.service"):
        file.write_text(file.read_text().replace("/opt/longbox/.venv/bin", str(venv)))
    files = sorted(str(file) for file in (tmp_path / "units").glob("longbox*.*") if file.is_file())
    verified = subprocess.run(
        [analyze, "verify", "--recursive-errors=no", "--man=no", *files], capture_output=True, text=True,
        env={"PATH": "/usr/bin:/bin", "SYSTEMD_UNIT_PATH": f"{tmp_path / 'units'}:"},
    )  # fmt: skip
    assert (verified.returncode, verified.stderr) == (0, ""), verified.stderr
    exposure = subprocess.run(
        [analyze, "security", "--offline=yes", "--threshold=30", *[f for f in files if f.endswith(".service")]],
        capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "SYSTEMD_UNIT_PATH": f"{tmp_path / 'units'}:"},
    )  # fmt: skip
    assert exposure.returncode == 0, exposure.stdout + exposure.stderr
