"""Against forgetting: the `[forgetting]` table of a recipe. Unset, it changes nothing."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from warmstart.part import Part


class Forgetting(Part):
    """What holds the model to what its base knew."""

    text: str | None = Field(
        default=None,
        description="a file or folder of general text, such as the base was made from: for "
        "rehearsal, for ewc, and for the forgetting figure",
    )
    rehearsal: float = Field(
        default=0.0,
        ge=0,
        le=0.9,
        description="share of each step's rows that are general text, learned along",
    )
    penalty: Literal["none", "l2_sp", "ewc"] = Field(
        default="none",
        description="pulls the weights back to the base's: l2_sp all alike, ewc those most that "
        "matter for general text",
    )
    strength: float = Field(
        default=0.01,
        gt=0,
        description="of the penalty: strength / 2 * the sum of (weight - the base's) squared",
    )

    @property
    def acts(self) -> bool:
        """Whether training is changed at all."""
        return self.rehearsal > 0 or self.penalty != "none"

    def check(self, method: Any) -> None:
        """Raise `ValueError` where the method has nothing to hold back."""
        name = method.part_name()
        if self.acts and method.changes == "nothing":
            raise ValueError(
                "forgetting.rehearsal and forgetting.penalty hold the base's weights, and method "
                f"{name} does not change them: nothing can be forgotten; leave forgetting.* out"
            )
        if self.penalty != "none" and method.changes == "beside":
            raise ValueError(
                f"forgetting.penalty {self.penalty} pulls the base's weights back, and method "
                f"{name} leaves them where they are; for what it adds beside them that would be "
                "train.weight_decay. Take that, forgetting.rehearsal, or method full"
            )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.text is None and self.rehearsal:
            raise ValueError(
                "rehearsal learns general text along; name a file or folder of it: "
                "--forgetting.text"
            )
        if self.text is None and self.penalty == "ewc":
            raise ValueError(
                "penalty ewc weighs the weights by general text; name a file or folder of it with "
                "--forgetting.text, or take l2_sp, which needs none"
            )
        return self
