"""Every method on every family: what moves, what is saved, what others read, what is refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from learning import LABELS, base_of, classifier, gradients, ready
from warmstart import part as parts
from warmstart.errors import RecipeError, RunError
from warmstart.methods.base import Method
from warmstart.models.architectures import skeleton
from warmstart.models.fast.forward import FastForward
from warmstart.models.head_layers import unwrap
from warmstart.models.hf_calls import quiet
from warmstart.models.modules import head_names
from warmstart.models.saved import load_saved
from warmstart.training.optimizer import Optimizer
from warmstart.training.settings import Train

Folder = Callable[[str], Path]
FAST = ("bert", "roberta", "distilbert", "electra")
FAMILIES = (*FAST, "modernbert", "xlnet", "gpt2", "llama", "t5", "bart", "pegasus")
SETTINGS: dict[str, dict[str, Any]] = {
    "full": {},
    "frozen": {"dropout": 0.0},
    "partial": {"layers": 1},
    "lora": {"rank": 4},
    "adapter": {"size": 4},
    "prompt_tuning": {"tokens": 3},
    "prefix_tuning": {"tokens": 3},
    "p_tuning": {"tokens": 3},
    "ia3": {},
    "bitfit": {},
    "layernorm": {},
}
REFUSED = {
    **{("prefix_tuning", f): "past_key_values" for f in ("distilbert", "modernbert", "xlnet")},
    **{("prefix_tuning", f): "past_key_values" for f in ("t5", "bart")},
    **{(m, f): "virtual tokens" for m in ("prompt_tuning", "p_tuning") for f in ("t5", "bart")},
    **{("bitfit", f): "has none" for f in ("modernbert", "llama", "t5")},
    ("frozen", "pegasus"): "head alone",
}
CELLS = [(m, f) for m in SETTINGS for f in FAMILIES if (m, f) not in REFUSED]
OTHERS = FAMILIES[len(FAST) :]


def quick(method: str, family: str) -> bool:
    """Two families of each method, one of them fast, and LoRA on the rest are tried whenever tests
    are run."""
    first = [*SETTINGS].index(method)
    fast, others = ([f for f in some if (method, f) not in REFUSED] for some in (FAST, OTHERS))
    chosen = (fast[first % len(fast)], others[first % len(others)])
    return family in chosen or (method == "lora" and family in ("bart", "pegasus"))


MARKED = [pytest.param(*cell, marks=[] if quick(*cell) else pytest.mark.slow) for cell in CELLS]
BEGINS_AT_NOTHING = ("lora", "adapter", "ia3", "layernorm", "full", "partial", "bitfit")
MERGES = ("lora", "ia3", "layernorm")
PROMPTS = ("prompt_tuning", "p_tuning", "prefix_tuning")
STILL_FAST = ("full", "frozen", "partial", "lora", "bitfit", "layernorm")

ROWS = [[1, 8, 9, 10, 11, 2], [1, 20, 21, 22, 2], [1, 30, 31, 2]]
LENGTHS, TARGETS = torch.tensor([6, 5, 4]), torch.tensor([0, 1, 2])
MASK = (torch.arange(6) < LENGTHS[:, None]).long()


def test_the_size_of_the_matrix() -> None:
    assert set(SETTINGS) == set(parts.names("method"))
    assert (len(SETTINGS), len(FAMILIES), len(REFUSED)) == (11, 11, 13)
    assert len(CELLS) == 11 * 11 - 13 == 108


@dataclass
class Case:
    """A method on a tiny model, and how both are computed."""

    method: Method
    family: str
    folder: Path

    @property
    def ids(self) -> torch.Tensor:
        """Decoders end a text with nothing, and pad with the end-of-text token."""
        decodes = self.family in ("gpt2", "llama")
        rows = [[*row[:-1], 12] if decodes else row for row in ROWS]
        return torch.tensor([row + [2 if decodes else 0] * (6 - len(row)) for row in rows])

    def fresh(self) -> Any:
        """The base under a head; PEGASUS, for which transformers has none, as a language model."""
        if self.family != "pegasus":
            return classifier(self.folder)
        from transformers import AutoModelForSeq2SeqLM

        with quiet():
            return AutoModelForSeq2SeqLM.from_pretrained(self.folder).eval()

    def logits(self, model: Any, *, fast: bool = True) -> torch.Tensor:
        model.eval()
        with torch.no_grad():
            if self.family == "pegasus":
                return model(input_ids=self.ids, attention_mask=MASK, labels=self.ids).logits
            return ready(model, fast=fast).logits(self.ids, LENGTHS, training=False)

    def train(self, model: Any, steps: int = 2) -> None:
        compute = None if self.family == "pegasus" else ready(model)
        settings = Train(learning_rate=1e-2, weight_decay=0.0, warmup=0.0, schedule="constant")
        groups = self.method.param_groups(model)
        optimizer = Optimizer(model, settings, steps, param_groups=groups)
        for step in range(steps):
            if compute is None:
                model.train()
                model.zero_grad()
                model(input_ids=self.ids, attention_mask=MASK, labels=self.ids).loss.backward()
            else:
                gradients(compute, self.ids, LENGTHS, TARGETS)
            optimizer.step(step)
            if compute is not None:
                compute.after_step()

    def saved(self, model: Any, out: Path) -> Path:
        from warmstart.models.loading import load_tokenizer

        base = base_of(self.folder)
        self.method.save(model, load_tokenizer(base), out, base)
        return out

    def others(self, out: Path) -> Any:
        """What transformers and PEFT make of the folder."""
        import peft
        from transformers import AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

        pegasus = self.family == "pegasus"
        kind: Any = AutoModelForSeq2SeqLM if pegasus else AutoModelForSequenceClassification
        if not (out / "adapter_config.json").exists():
            return kind.from_pretrained(out).eval()
        assert not (out / "model.safetensors").exists()
        config: Any = peft.PeftConfig.from_pretrained(str(out))
        more = {} if pegasus else {"num_labels": len(LABELS)}
        with warnings.catch_warnings(), quiet():
            warnings.simplefilter("ignore")
            assert config.base_model_name_or_path == self.folder.name, "and not where it lies"
            base = kind.from_pretrained(self.folder, **more)
            base.config.pad_token_id = 2 if self.family in ("gpt2", "llama") else 0
            return peft.PeftModel.from_pretrained(base, out).eval()


def case(method: str, family: str, tiny_of: Folder) -> Case:
    made: Any = parts.make("method", method, SETTINGS[method])
    return Case(made, family, tiny_of(family))


def everything(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("method", "family"), MARKED)
def test_method_on_family(method: str, family: str, tiny_of: Folder, tmp_path: Path) -> None:
    it = case(method, family, tiny_of)
    plain = it.fresh()
    expected = it.logits(plain)
    model: Any = it.method.attach(plain, 0)
    if method in BEGINS_AT_NOTHING:
        torch.testing.assert_close(it.logits(model), expected, atol=1e-5, rtol=1e-5)

    before = everything(model)
    weights = model.state_dict(keep_vars=True).items()  # tied ones under all their names
    asked = {name for name, value in weights if value.requires_grad}
    heads = head_names(unwrap(model))
    assert not any(module.training for module in model.modules())
    it.train(model)
    assert unwrap(model).training, "dropout is on while it trains"
    after = everything(model)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved <= asked, sorted(moved - asked)
    in_head = {name for name in moved if any(f"{head}." in name for head in heads)}
    assert bool(in_head) == bool(heads)
    assert bool(moved - in_head) == (method != "frozen"), "the method's own weights"

    trained = it.logits(model)
    assert not torch.allclose(trained, expected, atol=1e-4)
    if family != "pegasus":
        compute = ready(model)
        assert isinstance(compute, FastForward) == (family in FAST and method in STILL_FAST)
        torch.testing.assert_close(it.logits(model, fast=False), trained, atol=1e-5, rtol=1e-4)

    out = it.saved(model, tmp_path / "out")
    others = it.others(out)
    torch.testing.assert_close(answers(others, it), trained, atol=1e-5, rtol=1e-4)
    if family != "pegasus":
        loaded, _ = load_saved(out)
        torch.testing.assert_close(it.logits(loaded), trained, atol=1e-5, rtol=1e-4)
    if method in (*PROMPTS, "adapter"):
        with pytest.raises(RunError, match="cannot be merged"):
            it.method.merge(model)
        return
    whole = it.method.merge(model)
    torch.testing.assert_close(it.logits(whole), trained, atol=1e-5, rtol=1e-4)
    assert (whole is model) == (method not in MERGES)
    assert not any("modules_to_save" in name or "lora_" in name for name in whole.state_dict())


def answers(model: Any, it: Case) -> torch.Tensor:
    """The logits of somebody else's model, text by text: padding is not PEFT's strength."""
    if it.family == "pegasus":
        return it.logits(model)
    rows = [row[:length][None] for row, length in zip(it.ids, LENGTHS, strict=True)]
    with torch.no_grad(), quiet():
        found = [model(input_ids=r, attention_mask=torch.ones_like(r)).logits for r in rows]
    return torch.cat(found)


@pytest.mark.parametrize(("method", "family"), REFUSED)
def test_what_is_refused(method: str, family: str, tiny_of: Folder) -> None:
    """With the reason and another choice, before there are weights where transformers allows it."""
    it = case(method, family, tiny_of)
    models = [it.fresh()]
    if family != "pegasus":
        models.append(skeleton(models[0].config))
    for model in models:
        with pytest.raises(RecipeError, match=f"(?s){REFUSED[method, family]}.*; take "):
            it.method.check(model)
    with pytest.raises(RecipeError):
        it.method.attach(models[0], 0)


@pytest.mark.parametrize(("method", "family"), [c for c in CELLS if c[1] != "pegasus"])
def test_checked_before_there_are_weights(method: str, family: str, tiny_of: Folder) -> None:
    it = case(method, family, tiny_of)
    it.method.check(_skeleton(it.folder))


def _skeleton(folder: Path, _made: dict[Path, Any] = {}) -> Any:  # noqa: B006
    from transformers import AutoConfig

    if folder not in _made:
        _made[folder] = skeleton(AutoConfig.from_pretrained(folder))
    return _made[folder]
