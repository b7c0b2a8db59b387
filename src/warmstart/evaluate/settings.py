"""How an evaluation is done: the `[evaluate]` table of a recipe."""

from __future__ import annotations

from pydantic import Field

from warmstart.parts import Part


class Evaluate(Part):
    """Settings of the evaluation. They change what is said about a model, never the model."""

    bootstrap: int = Field(
        1000,
        ge=100,
        le=100_000,
        description="Resamples of the test rows behind every interval. More is steadier, slower.",
    )
    confidence_level: float = Field(
        0.95, gt=0.5, lt=1.0, description="How often an interval should hold the true figure."
    )
    baselines: bool = Field(
        True,
        description="Compare with the majority class and with TF-IDF + logistic regression.",
    )
    baseline_rows: int = Field(
        20_000,
        ge=10,
        description="Most training rows that the TF-IDF baseline may use; the report says when "
        "there were more.",
    )
    calibration_bins: int = Field(
        15, ge=2, le=100, description="Equal-width bins of the calibration error."
    )
