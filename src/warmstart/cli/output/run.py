"""What the command line prints: tables for people, JSON for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from warmstart.formatting import counted

if TYPE_CHECKING:
    from warmstart.config.recipe import Recipe
    from warmstart.pipelines.compare.result import Comparison
    from warmstart.pipelines.inspect import Inspection
    from warmstart.run import Run
    from warmstart.types import Prediction


MOST_LABELS = 30


def tuned(found: Run | Comparison, *, as_json: bool) -> None:
    """What `tune` gave: a run, or a comparison of several."""
    from warmstart.cli.output import comparison as several
    from warmstart.pipelines.compare.result import Comparison

    if not isinstance(found, Comparison):
        run(found, as_json=as_json)
    elif as_json:
        _json({"comparison": str(found.path), "report": str(found.report), **found.summary})
    else:
        several.told(found)


def run(run: Run, *, as_json: bool) -> None:
    """The result of a run, its report, and what to type next."""
    from warmstart.pipelines.next_steps import next_steps

    if as_json:
        paths = {"run": str(run.path), "model": str(run.model), "report": str(run.report)}
        _json({**paths, "metrics": run.metrics, "proof": run.proof})
        return
    if "tasks" in run.metrics:
        from warmstart.cli.output.multitask import told

        told(run)
        return
    scores(run.metrics)
    speed, proof = run.facts["speed"], run.proof
    task: Any = run.recipe.task
    what = task.head.row_unit  # a long passage is read in several windows
    rate = f"{speed['rows_per_second']:,.0f} {what}/s, {speed['precision']} on {speed['device']}"
    cached = speed["feature_seconds"]
    first = f"{cached:.1f} s for the outputs of the body, then " if cached else ""
    for reason, one in run.ledger["dropped"].items():
        print(f"left out   {counted(one['rows'])}: {reason} (first {one['first']})")
    print(f"trained    {first}{speed['rows']:,} {what} in {speed['seconds']:.1f} s ({rate})")
    largest = proof.get("max_probability_difference", proof.get("max_difference", 0.0))
    gap = f"largest difference {largest:.1e}"
    rows = f"{counted(proof['rows'])} ({gap})"
    print(f"proof      the saved folder answers as the trained model did on {rows}")
    print(f"model      {run.model}")
    print(f"report     {run.report}")
    print("\nNext:")
    for command, what in next_steps(task, run.answers_from):
        print(f"  {command}\n      {what}")


def metrics(found: Mapping[str, Any], out: Any, *, as_json: bool) -> None:
    """The scores of an evaluation."""
    if as_json:
        _json(dict(found))
        return
    scores(found)
    if out is not None:
        print(f"written    {out}/metrics.json, {out}/predictions.parquet")
    notes(found["notes"])


def scores(found: Mapping[str, Any]) -> None:
    """A table: the model beside the baselines, with intervals; and the verdict in words."""
    from warmstart.cli.output.tables import heading, plain, put
    from warmstart.evaluation.sentences import figure, percent

    level = f"{percent(found['confidence_level'])} interval"
    table = plain(f"{counted(found['rows'], 'test row')}")
    table.add_column("", no_wrap=True)
    baselines = found.get("baselines") or []
    table.add_column("this model", justify="right")
    table.add_column(level, justify="right", no_wrap=True)
    for baseline in baselines:
        table.add_column(heading(str(baseline["title"])), justify="right")
    for key, title in found["titles"].items():
        value, low, high = (figure(found[key][part]) for part in ("value", "low", "high"))
        rivals = [figure(baseline[key]["value"]) for baseline in baselines]
        table.add_row(title, value, f"{low} to {high}", *rivals)
    put(table)
    print(f"\n{found['verdict']}")


def predictions(answers: Iterable[tuple[str, Prediction]], *, as_json: bool) -> None:
    """One line an answer, as they come: label, confidence, text."""

    for text, answer in answers:
        if as_json:
            _json(as_row(answer), indent=None)
        else:
            print(as_line(text, answer))


def labelled(rows: int, out: Any, notes: Sequence[str], *, as_json: bool) -> None:
    """How many rows were labelled, and where they are."""
    if as_json:
        _json({"rows": rows, "out": str(out), "notes": list(notes)})
    else:
        print(f"{counted(rows)} labelled: {out}")


def notes(found: Iterable[str]) -> None:
    """What is worth knowing, on stderr."""
    for note in found:
        print(f"note: {note}", file=sys.stderr)


def recipe(found: Recipe, *, as_json: bool) -> None:
    """The whole recipe, with a comment on every key."""
    if as_json:
        _json(found.model_dump(mode="json"))
    else:
        print(found.commented(), end="")


def models(rows: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """The base models at hand."""
    if as_json:
        _json(list(rows))
        return
    from warmstart.cli.output.tables import plain, put

    table = plain()
    for title in ("name", "source", "family", "parameters", "licence", "good for"):
        table.add_column(title)
    for row in rows:
        millions = f"{row['parameters'] / 1e6:.1f} M" if row.get("parameters") else ""
        source = row["source"] if row["path"] else "not here yet"
        cells = (row["name"], source, row["family"], millions, row["license"], row["use"])
        table.add_row(*(str(cell or "") for cell in cells))
    put(table)
    for row in rows:
        if row["source"] == "fetched" and not row["path"]:
            print(f"To bring {row['name']} here: warmstart models fetch {row['name']}")
    print("Any folder with a Hugging Face model works too, a GGUF file, and any hub id:")
    print("--base owner/name")


def fetched(row: Mapping[str, Any], *, as_json: bool) -> None:
    """A base model that is on this machine now."""
    if as_json:
        _json(dict(row))
        return
    print(f"{row['name']} is in {row['path']} ({row['bytes'] / 1e6:.0f} MB of weights)")
    print(f"\nNext:\n  warmstart tune data.csv --base {row['name']} --method lora")


def plan(found: Mapping[str, Any], *, as_json: bool) -> None:
    """What `tune` would do: as comments, and the resolved recipe, so that it can be kept as one."""
    if "runs" in found:
        from warmstart.cli.output.comparison import planned

        runs = [{**run, "recipe": run["recipe"].model_dump(mode="json")} for run in found["runs"]]
        _json({**found, "runs": runs}) if as_json else planned(found)
        return
    recipe = found["recipe"]
    if as_json:
        _json({**found, "recipe": recipe.model_dump(mode="json")})
        return
    rows, train = found["rows"], recipe.train
    print(f"# {counted(rows['train'])} to train on, {rows['validation']:,} to validate, "
          f"{rows['test']:,} to test; "
          f"{counted(found['tokens']['train'], 'token')} to train on")  # fmt: skip
    for name, share in found.get("shares", {}).items():
        own = found["tasks"].get(name)
        said = f"{counted(own['rows']['train'])} to train on" if own else "a help without labels"
        print(f"# {name}: {said}, {share:.0%} of the steps")
    size = f"{train.batch_tokens} tokens" if train.batch_tokens else counted(train.batch_size)
    print(f"# {counted(found['steps'], 'step')} at most: {counted(train.epochs, 'epoch')}, "
          f"batches of {size}, learning rate {train.learning_rate:g}, "
          f"{train.precision}, {train.device}")  # fmt: skip
    if found["counts"]:
        count = len(found["labels"])
        print(f"# labels, with their rows in train, validation and test ({count}):")
    for label, counts in list(found["counts"].items())[:MOST_LABELS]:
        numbers = " ".join(f"{counts[split]:>7,}" for split in ("train", "validation", "test"))
        print(f"#   {numbers}  {' '.join(label.split())}")
    if len(found["counts"]) > MOST_LABELS:
        print(f"#   and {len(found['counts']) - MOST_LABELS} more")
    dropped = found["ledger"]["dropped"].items()
    for reason, entry in dropped:
        print(f"# dropped: {counted(entry['rows'])}, {reason} (first {entry['first']})")
    cut = found["ledger"]["tokens"].get("train", {}).get("cut")
    if cut:
        print(
            f"# cut: {counted(cut, 'token')} of train, by task.max_length {recipe.task.max_length}"
        )
    for note in found["ledger"]["notes"]:
        print(f"# note: {' '.join(note['message'].split())}")
    print(f"# the run would stand in {found['out']}; nothing has been written")
    print(recipe.commented(), end="")


def _json(value: Any, indent: int | None = 2) -> None:
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower()
    ascii_only = not encoding.startswith("utf")
    print(json.dumps(value, indent=indent, ensure_ascii=ascii_only, default=str))


def inspection(inspection: Inspection, *, as_json: bool) -> None:
    """The findings of an inspection, the gravest first, and where the rest stands."""
    from warmstart.cli.output.inspection import print_inspection

    if as_json:
        _json({**inspection.summary, "report": str(inspection.report)})
    else:
        print_inspection(inspection)


# One answer of any task: as a line for people, and as JSON.

NOTHING = "(none)"
SHOWN = 3  # numbers of a vector; JSON has all


def as_line(text: str, answer: Prediction) -> str:
    """Answer, confidence and text, with tabs between them; a number and a vector have no
    confidence: nobody knows how sure they are."""
    sure = [f"{answer.confidence:.3f}"] if _is_sure(answer) else []
    return "\t".join([in_words(answer.value), *sure, " ".join(text.split())])


def as_row(answer: Prediction) -> dict[str, Any]:
    """What `--json` prints; an answer out of a passage has its place there."""
    row: dict[str, Any] = {"id": answer.id, "label": answer.value}
    if _is_sure(answer):
        row["confidence"] = answer.confidence
    for name in ("start", "end"):
        if hasattr(answer, name):
            row[name] = getattr(answer, name)
    scores = {label: round(score, 6) for label, score in answer.scores.items()}
    return {**row, "scores": scores} if scores else row


def in_words(value: Any) -> str:
    """A label, text or number as it is; labels, entities and the answers of several tasks each
    after the other."""
    if isinstance(value, str):
        return " ".join(value.split()) or NOTHING
    if isinstance(value, Mapping):
        named: Mapping[str, Any] = value
        return "; ".join(f"{name}: {in_words(one)}" for name, one in named.items()) or NOTHING
    if _is_vector(value):
        return f"[{', '.join(f'{one:.3f}' for one in value[:SHOWN])}, … {len(value)} numbers]"
    if not isinstance(value, list | tuple) or not all(_is_plain(one) for one in value):
        return json.dumps(value, ensure_ascii=False, default=str)
    return ", ".join(_part(one) for one in value) or NOTHING


def _part(value: Any) -> str:
    """A label, or a piece of the text with its type or tag."""
    if isinstance(value, str):
        return value
    return f"{' '.join(value['text'].split())} [{value.get('type', value.get('tag'))}]"


def _is_plain(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, dict) and "text" in value)


def _is_sure(answer: Prediction) -> bool:
    """Whether the answer comes with a confidence."""
    return not isinstance(answer.value, float) and not _is_vector(answer.value)


def _is_vector(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], float)
