"""The shape of a low-rank adapter as a configuration gives it; what it does to a model is in `adapters.py`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Lora(BaseModel):
    """Train W + alpha / rank * B A in place of W: A has `rank` rows, B as many columns, W stays (Hu et al. 2021).

    `targets` are names of linear layers inside the transformer, such as `q_proj`; "all-linear" is every one of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(gt=0)
    alpha: float = Field(gt=0)
    targets: Literal["all-linear"] | tuple[str, ...]

    @field_validator("targets")
    @classmethod
    def _names(cls, targets: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if targets != "all-linear" and (not targets or len(set(targets)) < len(targets)):
            raise ValueError(f"targets {targets} must name each layer once, and one at least; or be all-linear")
        return targets
