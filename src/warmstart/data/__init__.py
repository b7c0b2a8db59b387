"""From files and Python objects to split tables, token ids and batches; every row accounted for."""

import os

# Read by pyarrow when it is imported. Its own pool holds on to a third more than the tables need
# (300,000 short rows: 95 MB against 52 MB over the bare import); a value set outside wins.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
