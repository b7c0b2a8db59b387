"""Classification by a head of one's own."""

from conformance.tasks.classification import FAMILIES, OTHER, ROWS

__all__ = ["FAMILIES", "OTHER", "ROWS", "SETTINGS"]
SETTINGS = {"module": "own_heads.Attending"}
