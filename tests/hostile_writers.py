"""Hostile and damaged folders and files for the verbs that write, align, pretrain, build and run
stages, as `hostile.py` has them for those that tune and answer."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile import ODD, Case, data_files, odd_values, tokenizer_bombs, whole_files

TEMPLATE = (
    "{% for m in messages %}{{ 'red ' if m.role == 'assistant' else 'blue ' }}{{ m.content }}</s>"
    "{% endfor %}{% if add_generation_prompt %}{{ 'red ' }}{% endif %}"
)
SHORT = "--max_new_tokens 4 --temperature 0"
FEW = "max_new_tokens=4, temperature=0"
WRITER_VERBS = (
    f"generate writer 'the film' {SHORT} --out o.jsonl",
    "align pairs.jsonl --base writer --dry-run",
    f"chat writer {SHORT}",
    f"py warmstart.generate('writer', ['the film'], {FEW})",
    f"prefer writer writer 'the film' --annotator a {SHORT}",
    "pretrain m.csv --base writer --dry-run",
    f"py warmstart.chat('writer', {FEW}).say('the film').text",
    "tune talk.jsonl --task chat --base writer --dry-run",
    "py warmstart.pipeline('text-generation', 'writer')('the film')",
    "evaluate writer m.csv --out scores --evaluate.bootstrap 100",
    "py warmstart.plan('pairs.jsonl', verb='align', base='writer')",
    f"py warmstart.prefer('writer', 'writer', ['the film'], lambda p: '1', annotator='a', {FEW})",
    "inspect talk.jsonl --base writer --out look",
    "py warmstart.plan('m.csv', verb='pretrain', base='writer')",
    "tokenizer compare m.csv --tokenizers writer,base",
    f"py list(warmstart.generate('writer', 'm.csv', {FEW}))",
)
WRITTEN_VERBS = (
    "pretrain --resume written",
    "scaling written written written",
    "py warmstart.pretrain(resume='written')",
    f"generate written 'the film' {SHORT}",
    "pretrain m.csv --base written --dry-run",
    "py warmstart.scaling(['written', 'written', 'written'])",
)
ALIGNED_VERBS = (
    "align --resume aligned",
    f"generate aligned 'the film' {SHORT}",
    "py warmstart.align(resume='aligned')",
    "align pairs.jsonl --base aligned --dry-run",
    f"py warmstart.chat('aligned', {FEW}).say('the film').text",
    "adapters merge aligned --out o",
)
STAGES_VERBS = ("run --resume stages", "py warmstart.run_stages(resume='stages')")
WHOLE_VERBS = (
    "build whole m.csv --engine onnx",
    "py warmstart.pipeline('text-classification', 'whole')('a good film')",
    "py warmstart.build('whole', 'm.csv', engine='onnx')",
    "compress whole m.csv --method vocabulary --dry-run",
    "py warmstart.compress('whole', 'm.csv', method='vocabulary', out='o')",
    "serve whole --port 0 --dry-run",
    "py warmstart.serve('whole', port=0, dry_run=True)",
    "py warmstart.predict('whole', ['a good film'])",
    "py warmstart.evaluate('whole', 'm.csv')",
    "inspect m.csv --base whole/model --out look",
)
BASE_VERBS = (
    "py warmstart.inspect('m.csv', base='base', out='look')",
    "demo --base base --train.max_steps 1 --evaluate.baselines false --out o",
    "py warmstart.tune('m.csv', base='base', out='o', **{'train.max_steps': 1})",
    "pretrain m.csv --base base --dry-run",
    "py warmstart.tokenizer.show('a text', tokenizers='base')",
    "py warmstart.tokenizer.extend('base', corpus='m.csv', out='o')",
    "py warmstart.tokenizer.plan_extension('base', corpus='m.csv')",
    "py warmstart.demo(out='o', base='base', train={'max_steps': 1})",
)
FILE_VERBS = (
    "pretrain {file} --base base --dry-run",
    "generate writer {file} --max_new_tokens 2",
    "align {file} --base writer --dry-run",
    "tune {file} --task chat --base writer --dry-run",
    "index whole {file} --out i",
    "prefer writer writer {file} --annotator a --max_new_tokens 2",
    "tokenizer compare {file} --tokenizers base",
    "py warmstart.plan({file!r}, verb='pretrain', base='base')",
    "build whole {file} --engine onnx",
    "py warmstart.plan({file!r}, verb='align', base='writer')",
    "py warmstart.tokenizer.train({file!r}, vocab_size=300, out='o')",
    "py warmstart.tokenizer.compare({file!r}, tokenizers='base')",
)
TALK_VERBS = (
    "tune {file} --task chat --base writer --dry-run",
    "generate writer {file} --max_new_tokens 2",
    "inspect {file} --base writer --out look",
    "align {file} --base writer --dry-run",
)
NAME_VERBS = (
    "models fetch {name}",
    "tune m.csv --base {name} --dry-run",
    "generate {name} 'the film'",
    "py warmstart.fetch({name!r})",
    "py warmstart.models()",
    "py warmstart.pipeline('text-classification', {name!r})",
    "build {name} --engine onnx",
    "serve {name} --port 0 --dry-run",
    "compress {name} m.csv --method vocabulary --dry-run",
)
NAMES = (
    "../../etc", "/dev/zero", "/etc/passwd", "a/b/../../c", "evil/base", "x" * 5_000, "\x1bb",
    "--index-url=http://evil", "smollm2==0", "base/../whole", ".", "~", "file:///etc",
)  # fmt: skip
SETTINGS = ("max_new_tokens=10**15", "max_new_tokens=-1", "temperature=float('nan')", "top_p=2",
            "temperature=1e-320", "top_k=10**30", "stop=['']", "num_beams=10**9", "seed=10**40",
            "num_return_sequences=10**9", "max_length=1", "repetition_penalty=0", "strange=1",
            "stop=['a' * 10**6]")  # fmt: skip
TEMPLATES: dict[str, str] = {
    "a loop without end": "{% for a in range(10**9) %}{% for b in range(10**9) %}{% endfor %}"
                          "{% endfor %}x",
    "a text without end": "{{ 'a' * 10**10 }}",
    "a power without end": "{{ 10 ** 10 ** 10 }}",
    "reads Python": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "opens a file": "{% include '/etc/passwd' %}",
    "imports": "{{ cycler.__init__.__globals__.os.system('touch was_run') }}",
    "calls itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "is no template": "{% for %}",
    "deep": "{{ " + "(" * 5_000 + "1" + ")" * 5_000 + " }}",
    "writes nothing": "",
    "raises": "{{ raise_exception('x' * 100000) }}",
    "moves the cursor": "{{ raise_exception('\x1b[2J') }}",
    "a format without end": "{{ '%1000000000d' % 1 }}",
    "a join without end": "{{ ('a' * 10**6).join(range(10**6) | list | map('string')) }}",
}  # fmt: skip
STAGES = """
[[stages]]
name = "read"
verb = "pretrain"
data = "m.csv"
base = "base"
train.max_steps = 2
evaluate.bootstrap = 100

[[stages]]
name = "sort"
verb = "tune"
data = "m.csv"
base = "stage:read"
train.max_steps = 2
evaluate.baselines = false
evaluate.bootstrap = 100
"""
STAGE_FILES: tuple[str, ...] = (
    "", "stages = 3", "[[stages]]", "[stages]\na = 1", "[[stages]]\nname = 1", "stages = [[1]]",
    '[[stages]]\nname = "../a"\nverb = "tune"', '[[stages]]\nname = "a"\nverb = "strange_parts.X"',
    '[[stages]]\nname = "a"\nverb = "tune"\ndata = "/dev/zero"\nbase = "base"',
    '[[stages]]\nname = "a"\nverb = "tune"\ndata = [1]\nbase = "base"',
    '[[stages]]\nname = "a"\nverb = "tune"\ndata = "m.csv"\nbase = "stage:a"',
    '[[stages]]\nname = "a"\nverb = "tune"\ndata = "m.csv"\nbase = ["stage:b"]',
    '[[stages]]\nname = "a"\nverb = "extend"\nbase = "base"\ncorpus = "/etc/shadow"',
    '[[stages]]\nname = "a"\nverb = "tune"\ndata = "m.csv"\nobjective = "strange_parts.O"',
    '[[stages]]\nname = "a"\nverb = ["tune"]', 'out = "/"\n' + STAGES, 'out = 3\n' + STAGES,
    '[[stages]]\nname = "' + "a" * 5_000 + '"\nverb = "tune"', "[[stages]]\n" * 3_000,
    STAGES.replace("train.max_steps = 2", "train.max_steps = -1"),
    STAGES.replace("stage:read", "stage:\\u001b[2J"),
)  # fmt: skip


def furnish(folder: Path) -> None:
    """Put into a room, which has a base and data: a model that writes and chats, a run that was
    pretrained, an adapter that was aligned and stages, all of them as if stopped; pairs and talk.
    """
    import warmstart
    from preferences import write_pairs
    from tiny import writer

    keys: dict[str, Any] = {"train.max_steps": 2, "evaluate.bootstrap": 100,
                            "train.precision": "fp32"}  # fmt: skip
    writer(folder / "writer", template=TEMPLATE)
    with contextlib.chdir(folder):
        write_pairs(Path("pairs.jsonl"))
        talk = [{"role": "user", "content": "the film"}, {"role": "assistant", "content": "good"}]
        Path("talk.jsonl").write_text((json.dumps({"messages": talk}) + "\n") * 40)
        Path("stages.toml").write_text(STAGES)
        warmstart.pretrain("m.csv", base="writer", out="written", **keys)
        warmstart.align("pairs.jsonl", base="writer", out="aligned", method="lora", **keys)
        warmstart.run_stages("stages.toml", out="stages")
        for record in ("written/run.json", "aligned/run.json", "stages/stages.json",
                       "stages/sort/run.json"):  # fmt: skip
            facts = json.loads(Path(record).read_text())
            Path(record).write_text(json.dumps({**facts, "status": "stopped"}))


def put(path: Path, content: str) -> Callable[[], None]:
    return lambda: (path.unlink(missing_ok=True), path.write_text(content), None)[-1]


def cases(room: Path) -> list[Case]:
    """Every case, with all of its verbs."""
    return [
        *_models(room), *_records(room), *_files(),
        *(Case(f"chat template that {what}", put(Path("writer/chat_template.jinja"), text),
               (WRITER_VERBS[0], WRITER_VERBS[2], WRITER_VERBS[7], WRITER_VERBS[3]))
          for what, text in TEMPLATES.items()),
        *(Case(f"stages {number} {text[:30]!r}", put(Path("s.toml"), text),
               ("run s.toml --dry-run", "py warmstart.run_stages('s.toml', out='o')"))
          for number, text in enumerate(STAGE_FILES)),
        *(Case(f"the base {name[:30]!r}", lambda: None,
               tuple(verb.format(name=name) for verb in NAME_VERBS)) for name in NAMES),
        *(Case(f"writes with {setting}", lambda: None,
               (f"py warmstart.generate('writer', ['the film'], **dict({setting}))",
                f"py warmstart.chat('writer', **dict({setting})).say('the film')"))
          for setting in SETTINGS),
    ]  # fmt: skip


def _models(room: Path) -> list[Case]:
    """Damaged files of models that write, of one that was aligned, of a base, and of a model that
    is built and asked by the other functions."""
    made = list[Case]()
    every: tuple[tuple[str, tuple[str, ...]], ...] = (
        ("writer", WRITER_VERBS), ("aligned/model", ALIGNED_VERBS), ("base", BASE_VERBS),
    )  # fmt: skip
    for folder, verbs in every:
        for file in sorted((room / folder).iterdir()):
            path = Path(folder, file.name)
            for what, damage in whole_files(path).items():
                made.append(Case(f"{path}: {what}", damage, verbs))
            if file.name in ("config.json", "generation_config.json", "adapter_config.json"):
                for what, damage in odd_values(path, room, 1):
                    made.append(Case(f"{path}: {what}", damage, verbs))
    for what, damage in tokenizer_bombs(Path("writer/tokenizer.json")).items():
        made.append(Case(f"writer/tokenizer.json: {what}", damage, WRITER_VERBS))
    for name in ("config.json", "model.safetensors", "warmstart.json"):
        path = Path("whole/model", name)
        for what, damage in whole_files(path).items():
            made.append(Case(f"{path}, built: {what}", damage, WHOLE_VERBS))
    return made


def _records(room: Path) -> list[Case]:
    """Damaged records of runs and of stages."""
    made = list[Case]()
    every = (("written", "run.json", WRITTEN_VERBS), ("written", "metrics.json", WRITTEN_VERBS),
             ("written", "recipe.toml", WRITTEN_VERBS), ("aligned", "run.json", ALIGNED_VERBS),
             ("aligned", "recipe.toml", ALIGNED_VERBS), ("stages", "stages.json", STAGES_VERBS),
             ("stages", "recipe.toml", STAGES_VERBS), ("stages/read", "run.json", STAGES_VERBS),
             ("stages/sort", "run.json", STAGES_VERBS))  # fmt: skip
    for folder, name, verbs in every:
        path = Path(folder, name)
        for what, damage in whole_files(path).items():
            made.append(Case(f"{path}: {what}", damage, verbs))
        if name in ("stages.json", "metrics.json") or path == Path("written/run.json"):
            for what, damage in odd_values(path, room, 1):
                made.append(Case(f"{path}: {what}", damage, verbs))
    return made


def _files() -> list[Case]:
    """Data files with the verbs of raw text, answers and pairs; conversations and pairs with odd
    values."""
    made = list[Case]()
    for name, write in data_files().items():
        words = tuple(verb.format(file=name) for verb in FILE_VERBS)
        made.append(
            Case(f"{name}, more verbs", lambda name=name, write=write: write(Path(name)), words)
        )
    talk = {"role": "user", "content": "a film"}
    reply = {"role": "assistant", "content": "good"}
    pair = {"prompt": "the film ?", "chosen": "good", "rejected": "bad"}
    kinds: dict[str, Callable[[Any], Any]] = {
        "messages": lambda odd: {"messages": odd},
        "a message": lambda odd: {"messages": [talk, odd]},
        "a role": lambda odd: {"messages": [talk, {**reply, "role": odd}]},
        "a content": lambda odd: {"messages": [talk, {**reply, "content": odd}]},
        "tools": lambda odd: {"messages": [talk, reply], "tools": odd},
        "calls": lambda odd: {"messages": [talk, {**reply, "tool_calls": odd}]},
        "a prompt": lambda odd: {**pair, "prompt": odd},
        "a chosen": lambda odd: {**pair, "chosen": odd},
        "a rejected": lambda odd: {**pair, "rejected": odd},
    }
    for kind, row in kinds.items():
        good = (
            pair if kind in ("a prompt", "a chosen", "a rejected") else {"messages": [talk, reply]}
        )
        for number, odd in enumerate(ODD):
            name = f"odd-{len(made)}.jsonl"
            lines = [good] * 20 + [row(odd)] + [good] * 20
            text = "\n".join(map(json.dumps, lines))
            words = tuple(verb.format(file=name) for verb in TALK_VERBS)
            made.append(Case(f"{kind} = {number} {str(odd)[:20]!r}", put(Path(name), text), words))
    return made
