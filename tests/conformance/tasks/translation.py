"""A text in another language, all of them learnt by heart."""

from conformance.tasks._families import WRITING
from conformance.tasks._texts import OTHER, ROWS, SETTINGS, perfect

__all__ = ["ENOUGH", "FAMILIES", "OTHER", "RATE", "ROWS", "SETTINGS", "STEPS", "perfect"]
FAMILIES = WRITING
STEPS, RATE = 160, 1.5e-2
ENOUGH = 99
