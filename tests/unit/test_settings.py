"""Settings: where they are read from, their defaults, and what is said about a wrong one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from server.settings import Settings, SettingsError, load, require

SECRET = "sesame-4711"  # noqa: S105 - what must never be shown


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting from outside, and no `.env` in the working directory."""
    for variable in list(os.environ):
        if variable.lower() in VARIABLES:
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)


VARIABLES = set(Settings.model_fields) | {
    "mongo_url",
    "ark_api_key",
    "volcengine_api_key",
    "volcengine_endpoint",
    "ai_timeout",
}


def plain(settings: Settings, field: str) -> object:
    """The field's value, a secret one laid open."""
    value = getattr(settings, field)
    return value.get_secret_value() if hasattr(value, "get_secret_value") else value


# --- sources -----------------------------------------------------------------------------------------

DEFAULTS: dict[str, object] = {
    "app_name": "sia-image-service",
    "app_environment": "development",
    "data_dir": Path("var"),
    "grpc_port": 8080,
    "http_port": 9090,
    "log_level": "info",
    "log_format": "json",
    "log_dir": None,
    "log_keep_days": 7,
    "redis_url": "",
    "store_url": "",
    "output_url": "",
    "public_url": "",
    "image_api_key": "",
    "image_base_url": "https://ark.cn-beijing.volces.com",
    "image_model": "doubao-seedream-4-0-250828",
    "model_catalogue": None,
    "image_default_size": "2K",
    "image_timeout": 300,
    "image_max_retries": 3,
    "volcengine_access_key": "",
    "volcengine_secret_key": "",
    "openai_api_key": "",
    "worker_concurrency": 10,
    "max_paid_attempts": 2,
    "lease_seconds": 15,
    "sync_wait_max_seconds": 300,
    "shutdown_grace_seconds": None,
    "output_fetch_allow_private": False,
}


@pytest.mark.parametrize(("field", "value"), DEFAULTS.items(), ids=DEFAULTS)
def test_the_defaults(field: str, value: object) -> None:
    assert plain(load(), field) == value


@pytest.mark.parametrize(
    ("variable", "field", "text", "value"),
    [
        ("GRPC_PORT", "grpc_port", "0", 0),
        ("LOG_LEVEL", "log_level", "WARNING", "warning"),
        ("STORE_URL", "store_url", "sqlite:///a.db", "sqlite:///a.db"),
        ("MONGO_URL", "store_url", "mongodb://h/db", "mongodb://h/db"),
        ("STORE_URL", "store_url", "mongodb://h:1,i:2/db", "mongodb://h:1,i:2/db"),
        ("PUBLIC_URL", "public_url", "https://h:8443/pictures/", "https://h:8443/pictures/"),
        ("IMAGE_API_KEY", "image_api_key", SECRET, SECRET),
        ("ARK_API_KEY", "image_api_key", SECRET, SECRET),
        ("VOLCENGINE_API_KEY", "image_api_key", SECRET, SECRET),
        ("IMAGE_BASE_URL", "image_base_url", "http://h", "http://h"),
        ("VOLCENGINE_ENDPOINT", "image_base_url", "http://h", "http://h"),
        ("IMAGE_TIMEOUT", "image_timeout", "12.5", 12.5),
        ("AI_TIMEOUT", "image_timeout", "12.5", 12.5),
        ("REDIS_URL", "redis_url", "unix:///r.sock", "unix:///r.sock"),
        ("REDIS_URL", "redis_url", "rediss://h:1/0", "rediss://h:1/0"),
        ("OUTPUT_URL", "output_url", "file:///dir", "file:///dir"),
        ("OUTPUT_FETCH_ALLOW_PRIVATE", "output_fetch_allow_private", "true", True),
    ],
)
@pytest.mark.parametrize("source", ["environment", "file"])
def test_a_setting_is_read(
    monkeypatch: pytest.MonkeyPatch, source: str, variable: str, field: str, text: str, value: object
) -> None:
    if source == "environment":
        monkeypatch.setenv(variable, text)
    else:
        Path(".env").write_text(f"# a comment\n{variable}='{text}'\nNOT_OURS=1\n")
    assert plain(load(), field) == value


def test_the_environment_goes_before_the_file_and_arguments_before_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path(".env").write_text("GRPC_PORT=1\nHTTP_PORT=2\nIMAGE_MODEL=three\n")
    monkeypatch.setenv("GRPC_PORT", "11")
    monkeypatch.setenv("HTTP_PORT", "12")
    settings = load(http_port=22)
    assert (settings.grpc_port, settings.http_port, settings.image_model) == (11, 22, "three")


def test_an_own_name_goes_before_its_other_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGO_URL", "mongodb://h/theirs")
    monkeypatch.setenv("STORE_URL", "mongodb://h/ours")
    monkeypatch.setenv("VOLCENGINE_API_KEY", "third")
    monkeypatch.setenv("ARK_API_KEY", "second")
    settings = load()
    assert settings.store_url == "mongodb://h/ours"
    assert settings.image_api_key.get_secret_value() == "second"


@pytest.mark.parametrize("from_file", [False, True])
def test_an_empty_name_hides_no_other_name_of_its_setting(
    monkeypatch: pytest.MonkeyPatch, from_file: bool
) -> None:
    variables = {"STORE_URL": "", "MONGO_URL": "mongodb://h/db", "AI_TIMEOUT": "", "IMAGE_TIMEOUT": "9"}
    if from_file:
        Path(".env").write_text("".join(f"{name}={text}\n" for name, text in variables.items()))
    else:
        for name, text in variables.items():
            monkeypatch.setenv(name, text)
    assert (load().store_url, load().image_timeout) == ("mongodb://h/db", 9)


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://h:6379/0/",
        "redis://:pw@/0",
        "redis://:pw@:6379/0",
        "unix://user:p@/run/redis.sock?db=1",
        "redis:///1",
        "redis://:s3%2Fcret@h:6379/0?health_check_interval=5",
        "rediss://user:p@[::1]:6380/2",
    ],
)
def test_urls_of_redis(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    assert load().redis_url == url


def test_no_file_is_read_when_none_is_asked_for() -> None:
    Path(".env").write_text("GRPC_PORT=1\n")
    assert load(None).grpc_port == 8080


@pytest.mark.parametrize("field", ["grpc_port", "image_timeout", "log_dir", "shutdown_grace_seconds"])
def test_an_empty_variable_means_the_default_whatever_the_file_says(
    monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    Path(".env").write_text(f"{field.upper()}=9\n")
    monkeypatch.setenv(field.upper(), "")
    assert plain(load(), field) == DEFAULTS[field]


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        load().grpc_port = 1  # type: ignore[misc]


# --- derived values ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "grace_s"),
    [
        ({}, 315),
        ({"IMAGE_TIMEOUT": "20"}, 35),
        ({"SHUTDOWN_GRACE_SECONDS": "0"}, 0),
        ({"SHUTDOWN_GRACE_SECONDS": "7.5", "IMAGE_TIMEOUT": "20"}, 7.5),
    ],
)
def test_the_grace_outlasts_a_call(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], grace_s: float
) -> None:
    for variable, text in environment.items():
        monkeypatch.setenv(variable, text)
    assert load().grace_s == grace_s


@pytest.mark.parametrize(
    ("environment", "outputs"),
    [
        ({"OUTPUT_URL": "file:///o", "STORE_URL": "mongodb://h/db"}, "file:///o"),
        ({"STORE_URL": "mongodb://h/db"}, "mongodb://h/db"),
        ({"STORE_URL": "sqlite:///x.db", "DATA_DIR": "/data"}, "file:///data/outputs"),
        ({"DATA_DIR": "/data"}, "file:///data/outputs"),
    ],
)
def test_where_outputs_go(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], outputs: str) -> None:
    for variable, text in environment.items():
        monkeypatch.setenv(variable, text)
    assert load().outputs == outputs


@pytest.mark.parametrize(
    ("environment", "vendors"),
    [
        ({}, set()),
        ({"ARK_API_KEY": "k"}, {"ark"}),
        ({"IMAGE_API_KEY": "", "ARK_API_KEY": "k"}, {"ark"}),
        ({"OPENAI_API_KEY": "k"}, {"openai"}),
        ({"VOLCENGINE_ACCESS_KEY": "k"}, set()),  # one of two
        ({"VOLCENGINE_ACCESS_KEY": "k", "VOLCENGINE_SECRET_KEY": "s"}, {"jimeng"}),
    ],
)
def test_which_vendors_have_credentials(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], vendors: set[str]
) -> None:
    for variable, text in environment.items():
        monkeypatch.setenv(variable, text)
    assert {name for name, is_set in load().vendor_keys.items() if is_set} == vendors


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "app_environment": "production",
            "data_dir": Path("elsewhere"),
            "grpc_port": 1,
            "log_dir": Path("logs"),
            "redis_url": "redis://:p%40ss@h/0",
            "store_url": "mongodb://u:p@h/db",
            "image_api_key": SECRET,
            "image_timeout": 0.25,
            "shutdown_grace_seconds": 0.0,
            "output_fetch_allow_private": True,
        },
    ],
    ids=["defaults", "changed"],
)
def test_a_child_process_reads_the_same_settings(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> None:
    settings = load(None, **changes)
    Path(".env").write_text(
        "GRPC_PORT=99\nLOG_DIR=theirs\nIMAGE_API_KEY=theirs\nSTORE_URL=sqlite:///theirs\nAI_TIMEOUT=99\n"
    )
    for variable in ("MONGO_URL", "VOLCENGINE_ENDPOINT"):  # what the parent was started with
        monkeypatch.setenv(variable, "mongodb://theirs/db")
    for variable, text in settings.as_environment().items():
        monkeypatch.setenv(variable, text)
    assert load() == settings


# --- wrong settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "text", "told"),
    [
        ("GRPC_PORT", "http", "GRPC_PORT: expected a whole number from 0 to 65535 (Port of"),
        ("GRPC_PORT", "65536", "GRPC_PORT: expected a whole number from 0 to 65535 (Port of"),
        ("HTTP_PORT", "-1", "HTTP_PORT: expected a whole number from 0 to 65535 (Port of"),
        ("LOG_LEVEL", "loud", "LOG_LEVEL: expected debug, info, warning or error (Least"),
        ("LOG_FORMAT", "xml", "LOG_FORMAT: expected json or console ("),
        ("LOG_KEEP_DAYS", "0", "LOG_KEEP_DAYS: expected a whole number from 1 to 3650 ("),
        ("IMAGE_TIMEOUT", "0", "IMAGE_TIMEOUT or AI_TIMEOUT: expected a number above 0 to 3600 ("),
        ("AI_TIMEOUT", "soon", "IMAGE_TIMEOUT or AI_TIMEOUT: expected a number above 0 to 3600 ("),
        ("IMAGE_MAX_RETRIES", "-1", "IMAGE_MAX_RETRIES: expected a whole number from 0 to 20 ("),
        ("MAX_PAID_ATTEMPTS", "0", "MAX_PAID_ATTEMPTS: expected a whole number from 1 to 10 ("),
        ("LEASE_SECONDS", "0.1", "LEASE_SECONDS: expected a number from 0.5 to 300 ("),
        ("WORKER_CONCURRENCY", "0", "WORKER_CONCURRENCY: expected a whole number from 1 to 1000 ("),
        ("SHUTDOWN_GRACE_SECONDS", "-1", "SHUTDOWN_GRACE_SECONDS: expected a number from 0 to 7200 ("),
        ("OUTPUT_FETCH_ALLOW_PRIVATE", "perhaps", "OUTPUT_FETCH_ALLOW_PRIVATE: expected true or false ("),
        ("QUEUE_MAX_DEPTH", "many", "QUEUE_MAX_DEPTH: expected a whole number from 1 up ("),
        (
            "REDIS_URL",
            "http://h",
            "REDIS_URL: expected a URL that begins with redis:// or rediss:// or unix://",
        ),
        ("REDIS_URL", "redis:6379", "REDIS_URL: expected a URL that begins with redis://"),
        ("REDIS_URL", "redis://h:0", "REDIS_URL: expected a URL that begins with redis://"),
        ("REDIS_URL", "localhost:6379", "REDIS_URL: expected a URL that begins with redis://"),
        (
            "IMAGE_BASE_URL",
            "h",
            "IMAGE_BASE_URL or VOLCENGINE_ENDPOINT: expected a URL that begins with https://",
        ),
        ("IMAGE_BASE_URL", "https://", "IMAGE_BASE_URL or VOLCENGINE_ENDPOINT: expected a URL that begins"),
        ("PUBLIC_URL", "foo", "PUBLIC_URL: expected a URL that begins with https://host or http://host"),
        ("PUBLIC_URL", "ftp://h", "PUBLIC_URL: expected a URL that begins with https://host or http://host"),
        ("PUBLIC_URL", "http://:80", "PUBLIC_URL: expected a URL that begins with https://host"),
        ("PUBLIC_URL", "http://h:port", "PUBLIC_URL: expected a URL that begins with https://host"),
        ("OPENAI_BASE_URL", "//h", "OPENAI_BASE_URL: expected a URL that begins with https://host"),
        ("STORE_URL", "postgres://h", "STORE_URL or MONGO_URL: expected a URL that begins with mongodb://"),
        ("MONGO_URL", "h:27017", "STORE_URL or MONGO_URL: expected a URL that begins with mongodb://"),
        ("OUTPUT_URL", "ftp://host/dir", "OUTPUT_URL: expected a URL that begins with file:// or mongodb://"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_expected(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, told: str
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(SettingsError) as caught:
        load()
    [line] = str(caught.value).splitlines()
    assert line.startswith(told)
    assert line.endswith(")"), "what the setting is for stands at the end"


def test_all_wrong_settings_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, text in {"GRPC_PORT": "x", "LOG_LEVEL": "x", "MONGO_URL": "x"}.items():
        monkeypatch.setenv(variable, text)
    with pytest.raises(SettingsError) as caught:
        load()
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "GRPC_PORT",
        "LOG_LEVEL",
        "STORE_URL or MONGO_URL",
    ]


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("STORE_URL", f"postgres://user:{SECRET}@h/db"),
        ("MONGO_URL", f"postgres://user:{SECRET}@h/db"),
        ("REDIS_URL", SECRET),
        ("REDIS_URL", f"http://:{SECRET}@h"),
        ("REDIS_URL", f"redis://:{SECRET}℀@h"),  # the URL parser's own error repeats the URL
        ("REDIS_URL", f"redis://:{SECRET}@[h"),
        ("REDIS_URL", f"redis://:{SECRET}#et@h:6379/0"),
        ("REDIS_URL", f"redis://:{SECRET}/et@h:6379/0"),
        ("REDIS_URL", f"redis://:{SECRET}?et@h:6379/0"),
        ("REDIS_URL", f"redis://user:6379/{SECRET}@h:6379/0"),
        ("OUTPUT_URL", f"ftp://key:{SECRET}@host/dir"),
        ("GRPC_PORT", SECRET),
        ("LOG_FORMAT", SECRET),
    ],
)
def test_a_wrong_value_is_never_shown(monkeypatch: pytest.MonkeyPatch, variable: str, text: str) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(SettingsError) as caught:
        load()
    assert variable in str(caught.value)
    assert SECRET not in str(caught.value)
    assert SECRET not in str(caught.value.__cause__), "what a traceback would show"


@pytest.mark.parametrize("show", [repr, str])
def test_secrets_are_not_shown_with_the_settings(show: Callable[[object], str]) -> None:
    settings = load(None, image_api_key=SECRET, volcengine_secret_key=SECRET, openai_api_key=SECRET)
    assert SECRET not in show(settings)


def test_missing_settings_are_named() -> None:
    settings = load(redis_url="redis://h")
    require(settings, "redis_url")
    with pytest.raises(SettingsError) as caught:
        require(settings, "redis_url", "store_url", "output_url")
    lines = str(caught.value).splitlines()
    assert [line.split(" (")[0] for line in lines] == ["STORE_URL: is not set", "OUTPUT_URL: is not set"]
