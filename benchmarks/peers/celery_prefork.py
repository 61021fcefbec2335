"""Celery with its pool `prefork`."""

from __future__ import annotations

from benchmarks.peers.celery_app import CelerySubmitter, command_for


def submitter() -> CelerySubmitter:
    """A client, not yet connected."""
    return CelerySubmitter()


def worker_command() -> list[str]:
    """Celery's own command."""
    return command_for("prefork")
