"""Where a training step's time goes: the tuned Trainer's step and warmstart's, and the machine's
matrix peak.

    python bench/profile_step.py                # 30 steps of each

The same length-grouped batches of 16 for both, in two processes: once without the profiler, for the
time of a step, and once with it, for its parts (time that an operator spends itself, by
torch.profiler; the median over the steps). `outside` is the time of the profiled step in no
operator: Python, and the profiler itself. Optimizer, dropout and embedding own everything that
happens below them; a cast or a copy elsewhere counts as such.

Share of the peak: model FLOPs of a step (6 for each matrix weight and real token, plus attention;
padding not counted) / its time without the profiler / the peak of a 2048³ product. `needed` leaves
out what the last layer computes for other tokens than the first, which the head never reads.
"""

from __future__ import annotations

import re
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from _common import folder_with, hand_back, parser, run_worker, splits_of
from _report import announce, close, table

GROUPS = {
    "optimizer": r"Optimizer\.step|_fused_adam|_foreach_norm|get_total_norm|clip_grad|"
    r"linalg_vector_norm|_foreach_mul|_foreach_clone",
    "dropout": r"dropout|bernoulli|_Drop|__and__|bitwise_and",
    "embedding": r"embedding|_Lookup|index_add|index_fill|index_select|EmbeddingBackward",
    "matrix products": r"aten::(mm|addmm|bmm|baddbmm|matmul|linear|addbmm)$|mkldnn|onednn",
    "attention kernel": r"scaled_dot_product|flash_attention",
    "norm, activation, softmax": r"layer_norm|gelu|softmax|tanh|nll_loss|cross_entropy",
    "copies and casts": r"aten::(copy_|_to_copy|to|clone|contiguous|cat|_foreach_copy_|reshape)$",
}
OWNERS = ("optimizer", "dropout", "embedding")
REST, OUTSIDE = "rest (sums, masks, zeroing, views)", "outside (Python, profiler)"
CONTESTANTS = ("tuned", "warmstart")


def main() -> int:
    words = parser(__doc__)
    words.add_argument("--steps", type=int, default=30)
    words.add_argument("--warmup", type=int, default=10, help="steps before, not counted")
    words.add_argument("--rounds", type=int, default=3, help="of the times without the profiler")
    asked = words.parse_args()
    if asked.worker:
        return work(asked.worker, asked.request)
    seconds = 1.0
    if asked.quick:
        asked.steps, asked.warmup, asked.rounds, seconds = 2, 1, 1, 0.05
    splits, data = splits_of(asked.data)
    facts = announce("Profile of a step", data)
    with folder_with(splits, 200 if asked.quick else None, 100) as folder:
        keys = {"data": str(folder), "precision": asked.precision}
        keys |= {"steps": asked.steps, "warmup": asked.warmup, "seconds": seconds}
        plain = {name: list[dict[str, Any]]() for name in CONTESTANTS}
        for number in range(asked.rounds):
            for name in CONTESTANTS[:: 1 if number % 2 else -1]:
                result = run_worker(__file__, name, {**keys, "profile": False})
                plain[name].append(result)
        found = {name: run_worker(__file__, name, {**keys, "profile": True}) for name in plain}
        peak = run_worker(__file__, "peak", {**keys, **plain["tuned"][0]})
    show_peak(peak)
    show_groups(found)
    show_share(plain, peak, asked.precision)
    close({**facts, "plain": plain, "profiled": found, "peak": peak}, asked.json)
    return 0


def show_peak(peak: dict[str, Any]) -> None:
    """The rates of the products."""
    rows: list[list[str]] = []
    for name, rates in peak["rates"].items():
        row = [name]
        for kind in ("fp32", "bf16"):
            best, median = rates[kind]
            row.append(f"{best:.0f} ({median:.0f})")
        rows.append(row)
    print(f"\n### Matrix products, 10⁹ FLOP/s, {peak['threads']} threads: best (median)")
    table(["rows × inner × columns", "fp32", "bf16"], rows)


def show_groups(found: dict[str, dict[str, Any]]) -> None:
    """The parts of a step side by side."""
    rows: list[list[str]] = []
    for group in [*GROUPS, REST, OUTSIDE]:
        row = [group]
        for name in CONTESTANTS:
            value, whole = found[name]["groups"][group], sum(found[name]["groups"].values())
            row.append(f"{value:.2f} ({100 * value / whole:.0f} %)")
        rows.append(row)
    print("### Parts of a step, profiled: ms, median over the steps (share)")
    table(["", *CONTESTANTS], rows)
    for name in CONTESTANTS:
        top = ", ".join(f"{op} {ms:.2f}" for op, ms in found[name]["top"])
        print(f"- {name}, operators, mean ms a step: {top}")


def show_share(plain: dict[str, list[dict[str, Any]]], peak: dict[str, Any], kind: str) -> None:
    """How near to the machine's peak each comes."""
    rows: list[list[str]] = []
    best = peak["rates"]["2048 × 2048 × 2048"][kind][0]
    for name, results in plain.items():
        seconds = statistics.median(result["mean_seconds"] for result in results)
        row = [name, f"{1000 * seconds:.1f}", f"{results[0]['rows'] / seconds:.1f}"]
        for flops in ("flops", "needed_flops"):
            rate = results[0][flops] / seconds / 1e9
            row.append(f"{rate:.0f} ({100 * rate / best:.1f} %)")
        rows.append(row)
    limit = plain["tuned"][0]
    bound = best * 1e9 / limit["flops"] * limit["rows"]
    print(f"\n### Share of the {kind} peak ({best:.0f}), without the profiler")
    head = ["", "ms a step", "rows/s", "model FLOPs, 10⁹/s (of the peak)"]
    table([*head, "needed FLOPs, 10⁹/s (of the peak)"], rows)
    print(f"At the peak these batches would train {bound:.0f} rows/s.")


def work(name: str, request: dict[str, Any]) -> int:
    """In the process of one measurement."""
    hand_back(request, **(_peak(request) if name == "peak" else _steps(name, request)))
    return 0


def _peak(request: dict[str, Any]) -> dict[str, Any]:
    import torch

    from _flops import gflops, model_shapes

    tokens = round(request["padded_tokens"])
    shapes = {"2048 × 2048 × 2048": (2048, 2048, 2048)}
    for what, (rows, inner, columns) in model_shapes(tokens).items():
        shapes[f"{rows} × {inner} × {columns} ({what})"] = (rows, inner, columns)
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16}
    rates = {
        name: {kind: gflops(shape, dtype, request["seconds"]) for kind, dtype in kinds.items()}
        for name, shape in shapes.items()
    }
    return {"rates": rates, "threads": torch.get_num_threads()}


def _steps(name: str, request: dict[str, Any]) -> dict[str, Any]:
    import _steps as two
    from _flops import step_flops

    data, count, warmup = Path(request["data"]), request["steps"], request["warmup"]
    encoded = two.rows_of(data)
    plan = two.plan_of(encoded, warmup + count, seed=0)
    make = two.tuned if name == "tuned" else two.warm
    running = make(data, request["precision"], plan)
    for _ in range(warmup):
        next(running)
    measured = [[len(encoded[i]["input_ids"]) for i in rows] for rows in plan[warmup:]]
    facts: dict[str, Any] = {
        "rows": statistics.mean(len(step) for step in measured),
        "padded_tokens": statistics.mean(len(step) * max(step) for step in measured),
        "flops": statistics.mean(step_flops(step) for step in measured),
        "needed_flops": statistics.mean(step_flops(step, first_only=True) for step in measured),
    }
    if request["profile"]:
        return {**facts, **_profiled(running, count)}
    begun = time.perf_counter()
    for _ in range(count):
        next(running)
    return {**facts, "mean_seconds": (time.perf_counter() - begun) / count}


def _profiled(running: Any, count: int) -> dict[str, Any]:
    from torch.profiler import ProfilerActivity, profile

    parts: dict[str, list[float]] = {group: [] for group in [*GROUPS, REST, OUTSIDE]}
    operators: dict[str, float] = {}
    for _ in range(count):
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            begun = time.perf_counter()
            next(running)
            whole = 1000 * (time.perf_counter() - begun)
        found = dict.fromkeys(parts, 0.0)
        for event in profiler.events():
            own = event.self_cpu_time_total / 1000
            found[group_of(event)] += own
            operators[event.name] = operators.get(event.name, 0.0) + own / count
        found[OUTSIDE] += max(0.0, whole - sum(found.values()))
        for group, value in found.items():
            parts[group].append(value)
    top = sorted(operators.items(), key=lambda item: -item[1])[:14]
    return {"groups": {group: statistics.median(v) for group, v in parts.items()}, "top": top}


def group_of(event: Any) -> str:
    """The owner above the event, else the group of its own name."""
    above = event
    while above is not None:
        for group in OWNERS:
            if re.search(GROUPS[group], above.name, re.IGNORECASE):
                return group
        above = above.cpu_parent
    return next((g for g, names in GROUPS.items() if re.search(names, event.name)), REST)


if __name__ == "__main__":
    sys.exit(main())
