"""What a server may be told: where it listens, and how much it takes."""

from __future__ import annotations

import ipaddress

from pydantic import BaseModel, ConfigDict, Field

LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Serving(BaseModel):
    """Settings of a server, frozen; the same on the command line and in Python."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(default="127.0.0.1", description="address to listen at; another than this "
                      "machine's own needs keys")  # fmt: skip
    port: int = Field(default=8000, ge=0, le=65535, description="0: any that is free")
    keys: str | None = Field(
        default=None,
        description="file of keys, as --new-key writes them: the SHA-256 of one on each line; "
        "unset: those in WARMSTART_SERVE_KEYS, or none",
    )
    max_body_bytes: int = Field(default=4 << 20, ge=1024, description="of a request")
    body_seconds: float = Field(default=20, gt=0, description="in which a request has to come")
    max_inputs: int = Field(default=2048, ge=1, description="texts in one request")
    max_request_tokens: int = Field(
        default=65_536, ge=1, description="tokens of all texts in one request together"
    )
    max_new_tokens: int = Field(default=1024, ge=1, description="tokens that a request may write")
    max_choices: int = Field(default=16, ge=1, description="answers to one prompt")
    max_waiting: int = Field(
        default=256, ge=1, description="requests of one model at once; more are refused (429)"
    )
    batch_rows: int = Field(default=32, ge=1, description="texts written beside each other")
    batch_tokens: int = Field(
        default=32_768, ge=1, description="tokens of prompts and answers written beside each other"
    )
    queue_seconds: float = Field(
        default=30, gt=0, description="that a request may wait for its turn; then 503"
    )
    run_seconds: float = Field(
        default=300, gt=0, description="that a request may take when its turn has come; then 504"
    )
    reload_seconds: float = Field(
        default=2, ge=0, description="between two looks at whether an adapter's files have "
        "changed; 0: never look",
    )  # fmt: skip
    drain_seconds: float = Field(
        default=5, ge=0, description="that new requests are still taken after SIGTERM, while "
        "/readyz says 503; then what was accepted is finished",
    )  # fmt: skip

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return self.host in LOOPBACK or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
