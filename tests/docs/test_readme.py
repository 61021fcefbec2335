"""What the README says about settings, metrics and make targets is what the code has."""

from __future__ import annotations

import re

import pytest

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
