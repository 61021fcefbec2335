"""The deployment files as data, and what the code knows of them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from pydantic import AliasChoices

from server.settings import Settings, load

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
MONITORING = ROOT / "monitoring"
SECRET_EXAMPLE = K8S / "secret.example.yaml"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
IMAGE = f"imagegen:{PROJECT['version']}"
DEFAULTS = Settings.model_construct()


def _names(field: str) -> list[str]:
    alias = Settings.model_fields[field].validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [field]
    return [str(choice).upper() for choice in choices]


# Setting → every variable that sets it, its own name first.
SETTINGS = {field.upper(): _names(field) for field in Settings.model_fields}
VARIABLES = frozenset(name for names in SETTINGS.values() for name in names)


class _StrictLoader(yaml.CSafeLoader):
    """Refuses a key that is written twice: YAML readers keep the last one without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value} is there twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def documents(text: str) -> list[dict[str, Any]]:
    """The YAML documents of a text. Raises yaml.YAMLError, also for a key that is there twice."""
    return [document for document in yaml.load_all(text, Loader=_StrictLoader) if document]


def document(path: Path) -> dict[str, Any]:
    """The one YAML document of a file."""
    (only,) = documents(path.read_text())
    return only


def manifests() -> list[dict[str, Any]]:
    """Every Kubernetes object under `k8s/`, the example secret included."""
    files = sorted(K8S.glob("**/*.yaml"))
    return [
        item for path in files if path.name != "kustomization.yaml" for item in documents(path.read_text())
    ]


def manifest(kind: str, name: str) -> dict[str, Any]:
    """The one object of that kind and name."""
    (only,) = (item for item in manifests() if (item["kind"], item["metadata"]["name"]) == (kind, name))
    return only


def is_pinned(image: str) -> bool:
    """Whether an image reference names a version: a tag that begins with a number or `v`, or a digest."""
    _, _, last = image.rpartition("/")
    _, _, tag = last.partition(":")
    return "@sha256:" in image or re.match(r"v?\d", tag) is not None


def seconds(duration: str) -> float:
    """A duration of one unit, `90s` or `5m`, in seconds."""
    match = cast("re.Match[str]", re.fullmatch(r"(\d+)(s|m|h)", duration))
    return int(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


def substitutions(text: str) -> Iterator[str]:
    """The names in `${NAME…}`."""
    return (match[1] for match in re.finditer(r"\$\{(\w+)", text))


def settings_of(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What a process with this environment, and nothing else, reads. Raises SettingsError."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load(env_file=None)
