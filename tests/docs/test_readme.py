"""What the README says about settings, metrics and make targets is what the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from server.domain.catalogue import Model
from server.providers.catalogue import CatalogueError, load_catalogue
from tests.docs.tables import ROOT, make_targets, metrics_rows, settings_rows

README = (ROOT / "README.md").read_text(encoding="utf-8")
DESIGNED_TARGETS = {
    *("help", "install-tools", "proto", "fmt", "lint", "type", "test", "test-coverage", "build"),
    *("run", "run-worker", "dev", "dev-worker", "demo", "bench", "chaos"),
    *("docker-build", "docker-run", "docker-compose-up", "docker-compose-down"),
    *("show-logs", "clean-logs", "redis-queue-status", "redis-queue-clear", "redis-queue-clear-force"),
}


@pytest.mark.parametrize("row", list(settings_rows()), ids=lambda row: row.split("`")[1])
def test_the_settings_table_has_the_setting_as_it_is(row: str) -> None:
    assert row in README, f"`python -m tests.docs.tables` prints the table; missing: {row}"


@pytest.mark.parametrize("row", list(metrics_rows()), ids=lambda row: row.split("`")[1])
def test_the_metrics_table_has_the_metric_as_it_is(row: str) -> None:
    assert row in README, f"`python -m tests.docs.tables` prints the table; missing: {row}"


def test_the_tables_hold_nothing_that_does_not_exist() -> None:
    known = {*settings_rows(), *metrics_rows()}
    rows = {row for row in README.splitlines() if re.match(r"\| `([A-Z_]{4,}`|(imagegen|grpc_server)_)", row)}
    assert rows - known == set()


def test_every_make_target_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"`?make ([a-z][a-z-]+)", README))
    assert named - set(make_targets()) == set()
    assert {"demo", "test", "run"} <= named


def test_the_makefile_has_the_targets_of_the_design() -> None:
    assert DESIGNED_TARGETS - set(make_targets()) == set()


def test_files_that_the_readme_links_exist() -> None:
    links = re.findall(r"\]\(((?!https?:|#)[^)]+)\)", README) + re.findall(r'src="([^"]+)"', README)
    missing = [link for link in links if not (ROOT / link.split("#")[0]).exists()]
    assert missing == []


def test_no_placeholder_is_left() -> None:
    assert "@@" not in README
    assert "TODO" not in README


def test_every_model_of_the_catalogue_is_told() -> None:
    told = set(re.findall(r"^\| `([\w.-]+)`.*\| `(?:ark|jimeng|openai|local)` \|$", README, re.MULTILINE))
    assert told == {model.id for model in load_catalogue().models}


@pytest.mark.parametrize("model", load_catalogue().models, ids=lambda model: model.id)
def test_what_a_model_takes_is_told_as_it_is(model: Model) -> None:
    takes = model.routes[0].parameters
    names = [name for name in ("seed", "guidance_scale", "watermark") if getattr(takes, name)]
    names += [f"quality {quality}" for quality in model.qualities if quality != "standard"]
    [row] = re.findall(rf"^\| `{re.escape(model.id)}`.*$", README, re.MULTILINE)
    assert row.split(" | ")[3] == ", ".join(names)


def test_the_example_of_a_catalogue_file_can_be_used(tmp_path: Path) -> None:
    example = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)[0]
    (tmp_path / "models.toml").write_text(example)
    catalogue = load_catalogue(tmp_path / "models.toml")
    assert catalogue.find("doubao-seedream-4-5-251128").routes[0].upstream_model == "ep-20261101-abcde"
    assert catalogue.find("doubao-seedream-6-0").routes[0].parameters.groups


def test_the_fault_of_a_wrong_catalogue_file_is_told_as_it_is(tmp_path: Path) -> None:
    example = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)[0]
    (tmp_path / "models.toml").write_text(example.replace('provider = "ark" }', 'provider = "arc" }'))
    with pytest.raises(CatalogueError) as caught:
        load_catalogue(tmp_path / "models.toml")
    assert str(caught.value).removeprefix(f"{tmp_path}/") in " ".join(README.split())
