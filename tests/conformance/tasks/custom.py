"""Classification by a head of one's own."""

import own_heads
from conformance.tasks.classification import FAMILIES, OTHER, ROWS

__all__ = ["FAMILIES", "OTHER", "ROWS", "SETTINGS"]
SETTINGS = {"module": f"{own_heads.__name__}.Attending"}
