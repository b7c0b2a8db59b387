"""Which proof a task gets: a pipeline of transformers where there is one, else its outputs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from warmstart.tasks.base import Examples, Task


def prove_task(
    folder: Path, task: Task, examples: Examples, outputs: Any, seed: int
) -> dict[str, Any]:
    """The figures for `proof.json`: the saved folder, loaded afresh, answers as the run did.

    Args:
        examples: the test split.
        outputs: what the run's feed gave for it.

    Raises `ProofError`.
    """
    own = getattr(task, "module", None)
    if task.form == "classes" and task.inputs == ("text",) and not own:
        from warmstart.tasks._classes import softmax
        from warmstart.verbs.proof import prove

        texts: list[str] = examples.table["text"].to_pylist()
        return prove(folder, texts, softmax(outputs), task.max_length, seed)
    if task.form == "vector":
        from warmstart.verbs.proof_vectors import prove_vectors

        return prove_vectors(folder, task, examples, outputs, seed)
    if task.form == "text":
        from warmstart.verbs.proof_text import prove_text

        return prove_text(folder, task, examples, outputs, seed)
    from warmstart.verbs.proof_outputs import prove_outputs

    return prove_outputs(folder, task, examples, outputs, seed)
