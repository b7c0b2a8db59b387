"""What the command line prints: tables for people, JSON for machines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from warmstart.cli.output.tables import heading, notes, plain, print_json, print_next, put
from warmstart.config.recipe import Recipe
from warmstart.errors import RecipeError
from warmstart.evaluation.sentences import between, figure, percent, points
from warmstart.formatting import counted
from warmstart.pipelines.compare.result import Comparison
from warmstart.reporting import comparison as units
from warmstart.run import Run
from warmstart.types import Metrics

MOST_LABELS = 30
MOST_GROUPS = 20


def tuned(result: Run | Comparison, *, as_json: bool) -> None:
    """What `tune` gave: a run, or a comparison of several."""
    if not isinstance(result, Comparison):
        run(result, as_json=as_json)
    elif as_json:
        print_json({"comparison": str(result.path), "report": str(result.report), **result.summary})
    else:
        print_comparison(result)


def run(run: Run, *, as_json: bool) -> None:
    """The result of a run, its report, and what to type next."""
    from warmstart.pipelines.finish import next_steps

    if as_json:
        paths = {"run": str(run.path), "model": str(run.model), "report": str(run.report)}
        print_json({**paths, "metrics": run.metrics, "proof": run.proof})
        return
    if "tasks" in run.metrics:
        run_of_tasks(run)
        return
    report = run.read_report()
    assert report.metrics is not None
    scores(report.metrics)
    speed, proof = report.speed, report.proof
    task: Any = run.recipe.task
    what = task.head.row_unit  # a long passage is read in several windows
    if task.head.predicts_itself and not task.reads_documents:
        what = "pairs"
    rate = f"{speed['rows_per_second']:,.0f} {what}/s, {computed(speed)}"
    if task.head.predicts_itself and "tokens_per_second" in speed:
        share = f"{speed['peak_share']:.0%} of the peak, " if speed.get("peak_share") else ""
        rate = f"{speed['tokens_per_second']:,.0f} tokens/s, {share}{computed(speed)}"
        if "padding" in speed:
            rate += f"; {speed['padding']:.1%} of it padding"
    cached = speed["feature_seconds"]
    first = f"{cached:.1f} s for the outputs of the body, then " if cached else ""
    kept = report.metrics.forgetting
    if kept is not None and {"corpora", "gained"} & kept.more.keys():
        Console(highlight=False).print(f"held out   {kept.sentence} {kept.advice}", markup=False)
    for reason, rows in report.data["dropped"].items():
        print(f"left out   {counted(rows['rows'])}: {reason} (first {rows['first']})")
    print(f"trained    {first}{speed['rows']:,} {what} in {speed['seconds']:.1f} s ({rate})")
    largest = proof.get("max_probability_difference", proof.get("max_difference", 0.0))
    gap = f"largest difference {largest:.1e}"
    rows = f"{counted(proof['rows'])} ({gap})"
    print(f"proof      the saved folder answers as the trained model did on {rows}")
    print(f"model      {run.model}")
    print(f"report     {run.report}")
    print_next(next_steps(task, run.answers_from))


def computed(speed: Mapping[str, Any]) -> str:
    """How the run was computed: "bf16 on cpu, 2 threads"."""
    threads = speed.get("threads") if speed["device"] == "cpu" else None
    where = f"{speed['precision']} on {speed['device']}"
    return f"{where}, {counted(threads, 'thread')}" if threads else where


def run_of_tasks(run: Run) -> None:
    """Print the result of a run of several tasks."""
    from warmstart.pipelines.finish import next_steps_of_tasks

    metrics, console = run.metrics, Console(highlight=False)
    tasks = metrics["tasks"]
    compared = any("alone" in result for result in tasks.values())
    more = ("alone", "sharing") if compared else ()
    table = plain(None, "task", "figure", "value", "interval", *more)
    for name, result in tasks.items():
        main, title = result[result["main"]], result["titles"].get(result["main"], result["main"])
        cells = [name, title, figure(main["value"]), between(main["low"], main["high"])]
        if compared:
            cells += [figure(result["alone"]["alone"]), result["alone"]["outcome"]]
        table.add_row(*cells)
    put(table)
    console.print(metrics["verdict"], markup=False)
    speed, proof = metrics["speed"], run.proof
    rate = f"{speed['rows_per_second']:,.0f} rows/s, {computed(speed)}"
    console.print(f"trained    {counted(speed['rows'])} in {speed['seconds']:.1f} s ({rate})")
    same = f"{proof['shared']['tensors']} tensors of the body are the same in all"
    console.print(f"proof      every saved folder answers as the trained model did; {same}")
    for title, path in (("models", run.model), ("report", run.report)):
        console.print(f"{title:<10} {path}", soft_wrap=True, markup=False)
    print_next(next_steps_of_tasks([run.model / name for name in tasks]))


def metrics(figures: Mapping[str, Any], out: Any) -> None:
    """The scores of an evaluation."""
    scores(Metrics.from_json(figures))
    for name, rows in figures.get("groups", {}).items():
        put(_by_group(name, rows))
    if out is not None:
        print(f"written    {out}/metrics.json, {out}/predictions.parquet")
    notes(figures["notes"])


def _by_group(name: str, rows: Mapping[str, Mapping[str, float]]) -> Table:
    """The figures of the groups, the lowest first."""
    order = sorted(rows.items(), key=lambda item: item[1]["accuracy"])
    fewer = f", the {MOST_GROUPS} lowest of {len(rows)}" if len(rows) > MOST_GROUPS else ""
    table = plain(f"by {name}{fewer}", name, "rows", "accuracy")
    for group, own in order[:MOST_GROUPS]:
        table.add_row(group, f"{own['rows']:,.0f}", figure(own["accuracy"]))
    return table


def scores(metrics: Metrics) -> None:
    """A table: the model beside the baselines, with intervals; and the verdict in words."""
    table = plain(counted(metrics.rows, str(metrics.more.get("row_name", "test row"))))
    table.add_column("", no_wrap=True)
    table.add_column("this model", justify="right")
    table.add_column(f"{percent(metrics.confidence_level)} interval", justify="right", no_wrap=True)
    for baseline in metrics.baselines:
        table.add_column(heading(baseline.title), justify="right")
    for name, title in metrics.titles.items():
        score = metrics.scores[name]
        others = [figure(baseline.scores[name].value) for baseline in metrics.baselines]
        interval = between(score.low, score.high)
        table.add_row(title, figure(score.value), interval, *others)
    put(table)
    print(f"\n{metrics.verdict}")


def recipe(recipe: Recipe) -> None:
    """The whole recipe, with a comment on every key."""
    print(recipe.commented(), end="")


def models(rows: Sequence[Mapping[str, Any]]) -> None:
    """The base models at hand."""
    table = plain(None, "name", "source", "family", "parameters", "licence", "good for")
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


def fetched(row: Mapping[str, Any]) -> None:
    """A base model that is on this machine now."""
    print(f"{row['name']} is in {row['path']} ({row['bytes'] / 1e6:.0f} MB of weights)")
    print(f"\nNext:\n  warmstart tune data.csv --base {row['name']} --method lora")


def plan(plan: Mapping[str, Any]) -> None:
    """What `tune` would do: as comments, and the resolved recipe, so that it can be kept as one."""
    if "runs" in plan:
        print_plan(plan)
        return
    rows, recipe, train = plan["rows"], plan["recipe"], plan["recipe"].train
    print(f"# {counted(rows['train'])} to train on, {rows['validation']:,} to validate, "
          f"{rows['test']:,} to test; "
          f"{counted(plan['tokens']['train'], 'token')} to train on")  # fmt: skip
    for name, share in plan.get("shares", {}).items():
        own = plan["tasks"].get(name)
        rows_of = f"{counted(own['rows']['train'])} to train on" if own else "a help without labels"
        print(f"# {name}: {rows_of}, {share:.0%} of the steps")
    size = f"{train.batch_tokens} tokens" if train.batch_tokens else counted(train.batch_size)
    print(f"# {counted(plan['steps'], 'step')} at most: {train.duration}, "
          f"batches of {size}, learning rate {train.learning_rate:g}, "
          f"{train.precision}, {train.device}")  # fmt: skip
    if plan["counts"]:
        print(f"# labels, with their rows in train, validation and test ({len(plan['labels'])}):")
    for label, counts in list(plan["counts"].items())[:MOST_LABELS]:
        numbers = " ".join(f"{counts[split]:>7,}" for split in ("train", "validation", "test"))
        print(f"#   {numbers}  {' '.join(label.split())}")
    if len(plan["counts"]) > MOST_LABELS:
        print(f"#   and {len(plan['counts']) - MOST_LABELS} more")
    for reason, entry in plan["ledger"]["dropped"].items():
        print(f"# dropped: {counted(entry['rows'])}, {reason} (first {entry['first']})")
    if cut := plan["ledger"]["tokens"].get("train", {}).get("cut"):
        longest = recipe.task.max_length
        print(f"# cut: {counted(cut, 'token')} of train, by task.max_length {longest}")
    for note in plan["ledger"]["notes"]:
        print(f"# note: {' '.join(note['message'].split())}")
    print(f"# the run would stand in {plan['out']}; nothing has been written there")
    print(recipe.commented(), end="")


def mask(plan: Mapping[str, Any]) -> None:
    """The first rows of train, what is learned of them in green; in brackets where there are no
    colours. Raises `RecipeError` where the
    task is another than chat."""
    rows: list[list[tuple[str, bool]]] = plan.get("preview") or []
    if not rows:
        raise RecipeError(
            "--show-mask shows which tokens of a conversation are learned, and this task learns "
            "none; it goes with --task chat"
        )
    console = Console(highlight=False)
    coloured = console.is_terminal and console.color_system is not None
    for number, row in enumerate(rows, 1):
        print(f"# row {number} to train on, what is learned in {'green' if coloured else '⟦ ⟧'}")
        line = Text()
        for text, learned in row:
            shown = text if coloured or not learned else f"⟦{text}⟧"
            line.append(shown, "bold green" if learned else "")
        console.print(line, soft_wrap=True)


# Several methods or seeds: the table, the verdict, what to type next.

STYLES = {"best": "bold green", "noise": "dim", "worse": "red", "unknown": "yellow"}


def print_comparison(comparison: Comparison) -> None:
    """Print the comparison."""
    summary, console = comparison.summary, Console(highlight=False)
    put(_scores(summary))
    print()
    put(_costs(summary))
    print()
    for text in (summary["verdict"], summary["advice"]):
        if text:
            console.print(text, markup=False)
    for note in [*summary["notes"], *summary["measured"]]:
        console.print(f"note: {note}", style="dim", markup=False)
    console.print(f"runs       {comparison.path}", soft_wrap=True, markup=False)
    console.print(f"report     {comparison.report}", soft_wrap=True, markup=False)
    print_next(summary["next"])


def _scores(summary: Mapping[str, Any]) -> Table:
    """One row a method, the best first."""
    seeds = len(summary["seeds"])
    over = f", mean ± spread of {seeds} seeds" if seeds > 1 else ""
    table = plain(f"{counted(summary['rows']['test'], 'test row')}{over}")
    table.add_column("", no_wrap=True)
    level = f"{percent(summary['confidence_level'])} interval"
    for title in (summary["title"], level, "points", ""):
        table.add_column(title, justify="right", no_wrap=True)
    for row in summary["methods"]:
        interval = "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
        behind = points(row["against"]["difference"], sign=True) if row["against"] else ""
        style, score = STYLES[row["outcome"]], units.score_words(row["value"], row["spread"])
        outcome = f"[{style}]{units.outcome_words(row['outcome'], row['against'])}[/{style}]"
        table.add_row(escape(row["method"]), score, interval, behind, outcome)
    return table


def _costs(summary: Mapping[str, Any]) -> Table:
    """One row a method. What could not be measured has no column."""
    methods = summary["methods"]
    columns: dict[str, tuple[str, Callable[[Any], str]]] = {
        "trainable": ("trained", units.millions),
        "file_bytes": ("saved", units.megabytes),
        "seconds": ("time", units.duration),
        "peak_memory_mb": ("peak memory", units.mebibytes),
        "energy_joules": ("energy", units.joules),
    }
    columns = {
        key: column for key, column in columns.items() if any(m[key] is not None for m in methods)
    }
    table = plain()
    table.add_column("", no_wrap=True)
    for title, _ in columns.values():
        table.add_column(title, justify="right", no_wrap=True)
    for row in methods:
        cells = ["" if row[key] is None else words(row[key]) for key, (_, words) in columns.items()]
        table.add_row(escape(row["method"]), *cells)
    return table


def print_plan(plan: Mapping[str, Any]) -> None:
    """What a comparison would do: one line a run."""
    console, rows = Console(highlight=False), plan["rows"]
    console.print(
        f"{counted(rows['train'])} to train on, {rows['validation']:,} to validate, "
        f"{rows['test']:,} to test; {counted(plan['tokens']['train'], 'token')} to train on; "
        "the same for every run"
    )
    table = plain(f"{counted(len(plan['runs']), 'run')}")
    for title in ("run", "at most", "batch", "learning rate", "precision"):
        table.add_column(title, justify="left" if title == "run" else "right")
    for run in plan["runs"]:
        train = run["recipe"].train
        size = f"{train.batch_tokens} tokens" if train.batch_tokens else counted(train.batch_size)
        name = escape(run["name"]) + (" (done)" if run["done"] else "")
        table.add_row(name, train.duration, size, f"{train.learning_rate:g}", train.precision)
    put(table)
    for note in plan["ledger"]["notes"]:
        console.print(f"note: {' '.join(note['message'].split())}", markup=False)
    console.print(
        f"the runs would stand in {plan['out']}; nothing has been written there",
        soft_wrap=True, markup=False,
    )  # fmt: skip
