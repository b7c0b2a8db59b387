"""How an evaluation is done: the `[evaluate]` table of a recipe."""

from __future__ import annotations

from pydantic import Field

from warmstart.part import Part


class Evaluate(Part):
    """Settings of the evaluation. They change what is said about a model, never the model."""

    bootstrap: int = Field(
        default=1000,
        ge=100,
        le=100_000,
        description="resamples of the test rows behind every interval; more is steadier, slower",
    )
    confidence_level: float = Field(
        default=0.95,
        gt=0.5,
        lt=1.0,
        description="how often an interval should hold the true figure",
    )
    baselines: bool = Field(
        default=True,
        description="compare with the majority class and with TF-IDF + logistic regression",
    )
    baseline_rows: int = Field(
        default=20_000,
        ge=10,
        description="most training rows that the TF-IDF baseline may use; the report says when "
        "there were more",
    )
    calibration_bins: int = Field(
        default=15, ge=2, le=100, description="equal-width bins of the calibration error"
    )
    forgetting: bool = Field(
        default=True,
        description="measure on general text what the base's body has lost in training; a second "
        "or two for a small model",
    )
