"""Executes every code block of README.md and docs/**/*.md, page by page and in order.

```python         runs in one namespace per page
```bash           runs as one script that stops at the first failing command; "console" runs its `$`
```toml           must be a recipe
```text, json …   is shown, not run
<!-- setup: … --> is bash that runs and is not shown

Each page has an empty folder of its own. Blocks run offline, with the environment's programs first
on the path and the shipped sample data in `$SAMPLES`; `warmstart` is that of preloaded.py, because
the imports of a process cost more than most commands. Commands that fetch or build the
project (`git clone`, `make demo`, `pip install`) are checked for what they name and left out.

The default suite runs every block as it is typed, but for `UNCUT` with training cut short
(`shortened.py`): no run has more steps than `STEPS`, and `minilm` has two of its six layers.
`-m slow` runs all pages uncut.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from shortened import VARIABLE, shallow, shortening

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN = {"python": "python", "py": "python", "toml": "toml", "console": "console"}
RUN |= dict.fromkeys(["bash", "sh", "shell"], "bash")
SHOWN = {"text", "json", "jsonl", "csv", "tsv", "yaml", "html", "diff", "make", "ini", "mermaid"}
UNCUT = "first-model"
STEPS = {"encoder-family": 60}
"""Of a page whose answers are looked at; else 4."""
SECONDS = 300  # for one bash block
LEFT_OUT = re.compile(
    r"(?:(?:make|git clone|pip3? install|uv (?:pip|tool) install)\b|cd warmstart$)"
)


@dataclass(frozen=True)
class Block:
    language: str
    code: str
    line: int  # of the first line of code in the page


def blocks_of(text: str) -> list[Block]:
    """The blocks of a page that do something, in order."""
    blocks: list[Block] = []
    for token in MarkdownIt().parse(text):
        line = (token.map or [0])[0] + 1
        if token.type == "fence":
            language = (token.info.split() or [""])[0].lower()
            if language not in RUN and language not in SHOWN:
                raise ValueError(f"line {line}: a block of {language or 'no language'}; use `text`")
            if language in RUN:
                blocks.append(Block(RUN[language], token.content, line + 1))
        elif token.type == "html_block":
            for found in re.finditer(r"<!--\s*setup:(.*?)-->", token.content, re.DOTALL):
                blocks.append(Block("bash", found.group(1).strip(), line))
    return blocks


def run_page(text: str, page: Path) -> None:
    """Run a page in the current folder; the first failure names the page and the line."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks_of(text):
        where = f"{page}:{block.line}"
        if block.language == "python":
            code = "\n" * (block.line - 1) + block.code  # tracebacks then show the page's lines
            exec(compile(code, str(page), "exec", dont_inherit=True), namespace)
        elif block.language == "toml":
            check_recipe(block.code)
        else:
            run_bash(commands(block), where)


def check_recipe(text: str) -> None:
    """Raise where a block is no recipe, or no recipe of several stages."""
    from warmstart.config.recipe import Recipe
    from warmstart.config.toml import read_toml
    from warmstart.pipelines.stages.recipe import parted, stages_of

    table = read_toml(text)
    if "stages" not in table:
        Recipe.from_toml(text)
        return
    for stage in stages_of(table, "the page", ("pretrain", "tune", "align")):
        if stage.verb != "extend":
            usual = {"task": {"name": "language_model"}} if stage.verb == "pretrain" else {}
            Recipe.of(usual, parted(stage.settings)[0])


def commands(block: Block) -> str:
    """What a block tells the shell, without the commands that fetch or build the project."""
    lines = block.code.splitlines()
    if block.language == "console":
        lines = [line[2:] for line in lines if line.startswith(("$ ", "> "))]
    return "\n".join("" if is_left_out(line.strip()) else line for line in lines)


def is_left_out(line: str) -> bool:
    if not LEFT_OUT.match(line):
        return False
    if line.startswith("make"):
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
        words = line.partition("#")[0].split()[1:]
        unknown = [word for word in words if "=" not in word and word not in targets]
        assert not unknown, f"`{line}`: the Makefile has no target {unknown}"
    if "install" in line:
        assert re.search(r"warmstart|-e \.|\s\.(\s|\[|$)", line), (
            f"`{line}` installs something else"
        )
    return True


def run_bash(script: str, where: str) -> None:
    """Run a script; a failing command fails the test with the output. Leaves nothing running."""
    with tempfile.TemporaryFile("w+") as output:  # a pipe would wait for what runs on with `&`
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            code = process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            code = f"none after {SECONDS} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        printed = output.read()
    if code != 0:
        pytest.fail(f"{where}: exit code {code}\n{script}\n{printed[-4000:]}")


@pytest.fixture
def reader(tmp_path: Path, preloaded: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder and the environment of somebody who follows a page."""
    monkeypatch.chdir(tmp_path)
    first, _, others = preloaded["PATH"].partition(os.pathsep)
    settings = {
        "PATH": os.pathsep.join([first, str(Path(sys.executable).parent), others]),
        "SAMPLES": str(ROOT / "src" / "warmstart" / "samples"),
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path / ".hf"),
        "NO_COLOR": "1",
        "COLUMNS": "100",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return tmp_path


@pytest.fixture(scope="session")
def shallow_minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shallow(tmp_path_factory.mktemp("shallow") / "minilm")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


every_page = pytest.mark.parametrize("page", PAGES, ids=name)


@every_page
def test_page(page: Path, reader: Path, shallow_minilm: Path, monkeypatch: pytest.MonkeyPatch):
    if page.stem != UNCUT:
        steps = STEPS.get(page.stem, 4)
        monkeypatch.setenv(VARIABLE, f"{steps} {shallow_minilm}")
        for change in shortening(steps, shallow_minilm):
            monkeypatch.setattr(*change)
    run_page(page.read_text(encoding="utf-8"), page)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page.stem != UNCUT], ids=name)
def test_page_uncut(page: Path, reader: Path):
    run_page(page.read_text(encoding="utf-8"), page)


@every_page
def test_links_lead_somewhere(page: Path):
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    local = [target for target in targets if not re.match(r"[a-z]+:", target)]
    assert [target for target in local if not (page.parent / target).exists()] == []


EXAMPLE = """\
<!-- setup: echo "text,label" > a.csv
mkdir runs -->

```python
from pathlib import Path
rows = Path("a.csv").read_text()
```

```bash
make demo            # is looked up, not run
git clone somewhere
cd warmstart
sleep 1000 &
echo one \\
  two > b.txt
test -d "$SAMPLES/.."
```

```console
$ cat b.txt > c.txt
one two
```

```text
this is not code
```

```python
assert rows == "text,label\\n"
assert Path("c.txt").read_text() == "one two\\n"
```
"""


def test_the_runner_runs_a_page_in_order(reader: Path):
    run_page(EXAMPLE, Path("page.md"))
    assert (reader / "runs").is_dir()


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("```bash\nfalse\necho not reached\n```", "page.md:2: exit code 1"),
        ("```bash\nwarmstart tune no.csv > it.txt\n```", "page.md:2: exit code 2"),
        ("```bash\nmake nothing\n```", "no target"),
        ("```bash\npip install something\n```", "installs something else"),
        ("```\nx\n```", "no language"),
        ("```pyhton\nx\n```", "a block of pyhton"),
        ("\n```python\nraise RuntimeError('as meant')\n```", "as meant"),
    ],
)
def test_the_runner_finds_what_is_wrong(page: str, message: str, reader: Path):
    with pytest.raises(BaseException, match=message):  # pytest.fail raises no Exception
        run_page(page, Path("page.md"))
