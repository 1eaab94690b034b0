"""What the local stack reads from the environment: for it alone, the services have their own."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

SandboxName = Literal["auto", "docker", "bubblewrap"]


class LocalSettings(BaseSettings):
    """Ports and, where a real GitHub or a real model is wanted, how to reach it."""

    model_config = SettingsConfigDict(
        env_prefix="PATCHWRIGHT_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    home: Path = Field(default=Path(".patchwright"), description="Data of the local stack.")
    nats_port: int = Field(default=4222, description="0 takes a free one, like all of them.")
    nats_nodes: Literal["1", "3"] = Field(
        default="1", description="Servers of NATS here, and copies of what they store."
    )
    ingest_port: int = Field(default=8080, description="Where webhooks arrive.")
    github_port: int = Field(default=8081, description="The GitHub stand-in.")
    model_port: int = Field(default=8082, description="The scripted model.")
    traces_port: int = Field(default=16686, description="The tracing UI.")
    otlp_port: int = Field(default=4318, description="Where Jaeger takes spans.")
    sandbox: SandboxName = Field(default="auto", description="Docker where it answers.")
    store_gigabytes: float | None = Field(
        default=None, gt=0, description="What NATS may store on the disk (GB); empty: 21.5."
    )
    model_delay: float = Field(default=0.0, ge=0, description="Seconds a scripted turn takes.")

    github_app_id: str = Field(default="", description="A real App's id: no stand-in then.")
    github_private_key: SecretStr = Field(default=SecretStr(""), description="Its key in PEM.")
    github_private_key_file: Path | None = Field(default=None, description="Or its file.")
    webhook_secret: SecretStr = Field(default=SecretStr(""), description="Its webhook secret.")
    anthropic_api_key: SecretStr = Field(
        default=SecretStr(""), validation_alias="ANTHROPIC_API_KEY", description="For Claude."
    )

    @property
    def real_github(self) -> bool:
        """Whether the operator named an App of theirs."""
        return bool(self.github_app_id)

    @property
    def real_model(self) -> bool:
        """Whether the operator brought a key."""
        return bool(self.anthropic_api_key.get_secret_value())

    def missing(self) -> list[str]:
        """What is not set although another part of an App is."""
        given = {
            "PATCHWRIGHT_GITHUB_APP_ID": self.real_github,
            "PATCHWRIGHT_GITHUB_PRIVATE_KEY_FILE": bool(
                self.github_private_key.get_secret_value() or self.github_private_key_file
            ),
            "PATCHWRIGHT_WEBHOOK_SECRET": bool(self.webhook_secret.get_secret_value()),
        }
        return [name for name, there in given.items() if not there] if any(given.values()) else []
