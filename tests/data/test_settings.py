from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from warmstart.data.settings import Data


def test_every_field_is_described() -> None:
    assert all(field.description for field in Data.model_fields.values())


def test_words_for_delimiters() -> None:
    assert Data(delimiter="tab").delimiter == "\t"
    assert Data(delimiter="\\t").delimiter == "\t"
    assert Data(delimiter=";").delimiter == ";"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"delimiter": "::"}, "one character"),
        ({"encoding": "utf-9"}, "try utf-8"),
        ({"validation_fraction": 0.5, "test_fraction": 0.5}, "below 1"),
        ({"test_fraction": 1.0}, "less than 1"),
        ({"similarity": 1.5}, "less than or equal to 1"),
        ({"limit": 0}, "greater than or equal to 1"),
        ({"sampling": "both"}, "'none', 'over' or 'under'"),
        ({"pth": "x"}, "Extra inputs"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Data.model_validate(wrong)


def test_settings_and_ledger_load_nothing_heavy() -> None:
    code = (
        "import sys, warmstart.data.settings, warmstart.data.ledger;"
        "heavy = {'numpy', 'pyarrow', 'datasets', 'pandas', 'torch', 'charset_normalizer'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
