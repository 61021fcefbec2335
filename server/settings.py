"""The settings: one frozen tree, read once from the environment and `.env`, and the only reader of either.

It stops at `server.app`: everything else takes plain arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from server import setting_urls

Port = Annotated[int, Field(ge=0, le=65535)]


def _small(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


class Settings(BaseSettings):
    """Every setting; a name in capitals is the environment variable of the field in small letters."""

    model_config = SettingsConfigDict(
        env_file=".env", extra="ignore", frozen=True, populate_by_name=True, hide_input_in_errors=True
    )

    app_name: str = Field("sia-image-service", description="Name in logs and metrics.")
    app_version: str = Field("0.1.0", description="Version in logs and metrics.")
    app_environment: str = Field(
        "development",
        description="`development` lets the local provider stand in for vendors without a key; any other "
        "name (`production`, `staging`) does not.",
    )
    data_dir: Path = Field(Path("var"), description="Where the embedded stack keeps everything.")
    grpc_port: Port = Field(8080, description="Port of the gRPC server; 0 picks a free one.")
    http_port: Port = Field(
        9090, description="Port of health, readiness, metrics and outputs; 0 picks a free one."
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_small)] = Field(
        "info", description="Least level logged."
    )
    log_format: Literal["json", "console"] = Field(
        "json", description="`json` for machines, `console` for people."
    )
    log_dir: Path | None = Field(
        None,
        description="Also log into this directory, one file per process (`worker.log`, `worker.2.log`, …), "
        "rotated daily; empty = stderr only.",
    )
    log_keep_days: int = Field(7, ge=1, le=3650, description="Days that log files are kept.")

    redis_url: str = Field("", description="`redis://host:6379/0`, `rediss://…` or `unix:///path`.")
    store_url: str = Field(
        "",
        validation_alias=AliasChoices("store_url", "mongo_url"),
        description="`mongodb://host:27017/imagegen` or `sqlite:///path/to/file.db`.",
    )
    output_url: str = Field(
        "",
        description="Where images are kept: `file:///dir`, a `mongodb://…` URL (GridFS) or "
        "`s3://bucket/prefix?endpoint=https://…&region=…`. "
        "Empty = GridFS beside a MongoDB store, `DATA_DIR/outputs` otherwise.",
    )
    output_link_seconds: int = Field(
        86_400,
        ge=60,
        le=30 * 86_400,
        description="How long the links of images work; each answer comes with new ones.",
    )
    aws_access_key_id: SecretStr = Field(
        SecretStr(""),
        description="Access key of an `s3://` OUTPUT_URL; empty = from AWS files or the machine's role.",
    )
    aws_secret_access_key: SecretStr = Field(SecretStr(""), description="Secret key that belongs to it.")
    aws_session_token: SecretStr = Field(
        SecretStr(""), description="Session token that belongs to temporary keys."
    )
    public_url: str = Field(
        "", description="What the links of images begin with; empty = `http://localhost:HTTP_PORT`."
    )

    image_api_key: SecretStr = Field(
        SecretStr(""),
        validation_alias=AliasChoices("image_api_key", "ark_api_key", "volcengine_api_key"),
        description="API key of Volcengine Ark.",
    )
    image_base_url: str = Field(
        "https://ark.cn-beijing.volces.com",
        validation_alias=AliasChoices("image_base_url", "volcengine_endpoint"),
        description="Ark's address; `/api/v3` is appended when the path is empty.",
    )
    image_model: str = Field("doubao-seedream-4-0-250828", description="Model of requests that name none.")
    model_catalogue: Path | None = Field(
        None,
        description="A TOML file that adds models to the built-in ones or overrides them by id; "
        "empty = the built-in ones alone.",
    )
    image_default_size: str = Field(
        "2K", description="Size of requests that name none, where the model takes it."
    )
    image_timeout: float = Field(
        300,
        gt=0,
        le=3600,
        validation_alias=AliasChoices("image_timeout", "ai_timeout"),
        description="Seconds one call to a provider may take; an attempt may take several.",
    )
    image_max_retries: int = Field(
        3, ge=0, le=20, description="Retries after a failure that surely cost nothing."
    )
    volcengine_access_key: SecretStr = Field(SecretStr(""), description="Access key of Jimeng.")
    volcengine_secret_key: SecretStr = Field(SecretStr(""), description="Secret key of Jimeng.")
    volcengine_region: str = Field("cn-north-1", description="Region of Jimeng.")
    openai_api_key: SecretStr = Field(SecretStr(""), description="API key of OpenAI.")
    openai_base_url: str = Field("https://api.openai.com/v1", description="OpenAI's address.")

    worker_concurrency: int = Field(10, ge=1, le=1000, description="Tasks one worker process runs at once.")
    max_paid_attempts: int = Field(
        2,
        ge=1,
        le=10,
        description="Paid calls a task may cost where its request does not say; 1 = never twice.",
    )
    lease_seconds: float = Field(
        15,
        ge=0.5,
        le=300,
        description="How long a silent worker keeps its tasks; lost ones resume within twice that. "
        "A worker is judged by the longer of its own and its observer's.",
    )
    sync_wait_max_seconds: float = Field(
        300, gt=0, le=3600, description="How long a synchronous call without a deadline waits."
    )
    shutdown_grace_seconds: float | None = Field(
        None,
        ge=0,
        le=7200,
        description="How long a stop waits for work under way; empty = IMAGE_TIMEOUT + 15.",
    )
    queue_max_depth: int = Field(
        100_000, ge=1, description="Tasks that may wait or run; beyond it submits answer RESOURCE_EXHAUSTED."
    )
    output_fetch_allow_private: bool = Field(
        False,
        description="Whether results and reference links may be read over http and from private addresses.",
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_means_default(cls, values: dict[str, Any]) -> dict[str, Any]:
        """`NAME=` in the environment hides the `.env` file's value and means the default."""
        return {name: value for name, value in values.items() if value != ""}

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *sources: PydanticBaseSettingsSource, **named: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """In the environment, and in the file, an empty name of a setting does not hide a filled one."""
        ordered = super().settings_customise_sources(settings_cls, *sources, **named)
        for source in ordered:
            if isinstance(source, EnvSettingsSource):
                source.env_vars = _filled_first(source.env_vars)
        return ordered

    _http = field_validator("public_url", "image_base_url", "openai_base_url")(setting_urls.http)
    _redis = field_validator("redis_url")(setting_urls.redis)
    _store = field_validator("store_url")(setting_urls.store)
    _output = field_validator("output_url")(setting_urls.output)

    @property
    def grace_s(self) -> float:
        """SHUTDOWN_GRACE_SECONDS, or its default."""
        return self.image_timeout + 15 if self.shutdown_grace_seconds is None else self.shutdown_grace_seconds

    @property
    def outputs(self) -> str:
        """OUTPUT_URL, or its default."""
        if self.output_url:
            return self.output_url
        if self.store_url.startswith("mongodb"):
            return self.store_url
        return f"file://{quote(str((self.data_dir / 'outputs').resolve()))}"

    @property
    def vendor_keys(self) -> dict[str, bool]:
        """Which vendors have credentials, by provider name."""
        keys = {
            "ark": (self.image_api_key,),
            "jimeng": (self.volcengine_access_key, self.volcengine_secret_key),
            "openai": (self.openai_api_key,),
        }
        return {name: all(key.get_secret_value() for key in all_of) for name, all_of in keys.items()}

    def as_environment(self) -> dict[str, str]:
        """The settings as variables, for child processes: what came from `.env` or arguments included.

        Other names of a setting are empty, so that what the environment says by them goes no further.
        """
        values: dict[str, str] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            plain = value.get_secret_value() if isinstance(value, SecretStr) else value
            values |= dict.fromkeys(_names(name, field), "")
            values[name.upper()] = "" if plain is None else str(plain)
        return values


class SettingsError(Exception):
    """A setting is wrong or missing: one line per setting, its name, what is wrong, what is expected."""


def _names(name: str, field: FieldInfo) -> list[str]:
    """The variables that the field is read from, its own first."""
    other = field.validation_alias
    return [str(n).upper() for n in other.choices] if isinstance(other, AliasChoices) else [name.upper()]


def _filled_first(variables: Mapping[str, str | None]) -> Mapping[str, str | None]:
    """The variables without those that are empty while another name of the same setting is not."""
    hiding: set[str] = set()
    for name, field in Settings.model_fields.items():
        names = [variable.lower() for variable in _names(name, field)]
        if any(variables.get(variable) for variable in names):
            hiding.update(variable for variable in names if not variables.get(variable))
    return {name: value for name, value in variables.items() if name not in hiding}


def load(env_file: str | None = ".env", **overrides: object) -> Settings:
    """Read the settings. Raises SettingsError naming every wrong variable."""
    try:
        return Settings(_env_file=env_file, **overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        lines = []
        for item in error.errors():
            name = str(item["loc"][0]) if item["loc"] else "settings"
            field = Settings.model_fields.get(name)
            meaning = f" ({field.description})" if field is not None and field.description else ""
            own_words = item["msg"].removeprefix("Value error, ")
            wrong = own_words if item["type"] == "value_error" else _expected(name) or own_words
            variables = " or ".join(_names(name, field)) if field is not None else name.upper()
            lines.append(f"{variables}: {wrong}{meaning}")
        raise SettingsError("\n".join(lines)) from error


def _expected(name: str) -> str:
    """What values the field takes, by its type and bounds; empty where these say nothing.

    The wrong value is not shown: it may be a secret that was written behind the wrong name.
    """
    field: dict[str, Any] = Settings.model_json_schema(by_alias=False)["properties"].get(name, {})
    kind = field.get("anyOf", [field])[0]
    if "enum" in kind:
        *others, last = kind["enum"]
        return f"expected {', '.join(others)} or {last}"
    match kind.get("type"):
        case "boolean":
            return "expected true or false"
        case "integer" | "number" as number:
            low, above, high = (kind.get(key) for key in ("minimum", "exclusiveMinimum", "maximum"))
            least = f"above {above}" if low is None else f"from {low}"
            most = "up" if high is None else f"to {high}"
            return f"expected a {'whole ' * (number == 'integer')}number {least} {most}"
    return ""


def require(settings: Settings, *names: str) -> None:
    """Raise SettingsError when one of these settings is empty."""
    missing = [
        f"{name.upper()}: is not set ({Settings.model_fields[name].description})"
        for name in names
        if not getattr(settings, name)
    ]
    if missing:
        raise SettingsError("\n".join(missing))
