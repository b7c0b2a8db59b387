"""Adapters as files: made one with their base, added, averaged, shared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from learning import LABELS, base_of, classifier, load_classifier
from tiny import tiny
from warmstart import part as parts
from warmstart.errors import BaseModelError, ProofError, RunError
from warmstart.models import loading as backbone
from warmstart.models.adapters import combine
from warmstart.models.adapters.files import base_of as base_of_file
from warmstart.models.adapters.files import base_state, read
from warmstart.models.adapters.open import opened, outputs
from warmstart.models.hf_calls import quiet
from warmstart.models.peft import wrap as peft_models
from warmstart.models.saved import load_saved

Folder = Callable[[str], Path]
IDS = torch.tensor([[1, 8, 9, 10, 20]])


def made(
    base: Path,
    out: Path,
    method: str = "lora",
    seed: int = 1,
    labels: Any = LABELS,
    **settings: Any,
) -> Path:
    """An adapter as training leaves it: every weight that may move has moved."""
    chosen: Any = parts.make("method", method, settings)
    plain = load_classifier(base_of(base), labels, 0)
    model = chosen.attach(plain, 0)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p += 0.2 * torch.randn(p.shape, generator=rng)
    chosen.save(model, backbone.load_tokenizer(base_of(base)), out, base_of(base),
                notes={"head": "classes"})  # fmt: skip
    return out


def answers(model: Any) -> torch.Tensor:
    with torch.no_grad(), quiet():
        return model.eval()(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits


def same(ours: list[torch.Tensor], theirs: list[torch.Tensor], atol: float = 1e-5) -> None:
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=atol, rtol=1e-5)


@pytest.mark.parametrize("family", ["bert", "xlnet", "gpt2", "t5"])
def test_merged(family: str, tiny_of: Folder, tmp_path: Path) -> None:
    base = tiny_of(family)
    file = read(made(base, tmp_path / "a", rank=4))
    told = combine.merge(file, tmp_path / "m")
    assert told["proof"]["max_difference"] <= told["proof"]["tolerance"]
    same(outputs(tmp_path / "m"), outputs(file.folder))

    from transformers import AutoModelForSequenceClassification

    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "m")
    assert [theirs.config.id2label[i] for i in range(3)] == list(LABELS)
    assert not (tmp_path / "m" / "adapter_config.json").exists()


@pytest.mark.parametrize(
    ("method", "settings"),
    [("ia3", {}), ("layernorm", {}), ("lora", {"use_dora": True}), ("lora", {"use_rslora": True}),
     ("lora", {"init": "pissa"})],
)  # fmt: skip
def test_other_changes_of_weights(
    method: str, settings: dict[str, Any], tiny_of: Folder, tmp_path: Path
) -> None:
    file = read(made(tiny_of("bert"), tmp_path / "a", method, **settings))
    combine.merge(file, tmp_path / "m")
    same(outputs(tmp_path / "m"), outputs(file.folder))


@pytest.mark.parametrize("method", ["adapter", "prompt_tuning", "prefix_tuning", "p_tuning"])
def test_what_is_no_change_of_weights_does_not_merge(
    method: str, tiny_of: Folder, tmp_path: Path
) -> None:
    file = read(made(tiny_of("bert"), tmp_path / "a", method))
    assert file.method == method
    with pytest.raises(RunError, match=r"cannot be merged.*Keep it beside its base"):
        combine.merge(file, tmp_path / "m")
    with pytest.raises(RunError, match="cannot be added"):
        combine.add([file, file], [0.5, 0.5], tmp_path / "m")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a"]


def test_a_rounded_base_does_not_merge(tiny_of: Folder, tmp_path: Path) -> None:
    file = read(made(tiny_of("bert"), tmp_path / "a", base_bits=4))
    with pytest.raises(RunError, match="rounded to 4 bits"):
        combine.merge(file, tmp_path / "m")


def test_a_bad_merge_is_not_put_in_place(
    tiny_of: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = read(made(tiny_of("bert"), tmp_path / "a"))

    def forgetful(model: Any) -> Any:
        return classifier(tiny_of("bert"))

    monkeypatch.setattr(peft_models, "merged", forgetful)
    with pytest.raises(ProofError, match="outputs differ"):
        combine.merge(file, tmp_path / "m")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def changes(folder: Path, base: Path) -> dict[str, torch.Tensor]:
    """What merging adds to each weight of the body."""
    from peft import PeftModel

    plain = classifier(base)
    with quiet():
        adapted: Any = PeftModel.from_pretrained(classifier(base), folder)
    after = peft_models.merged(adapted).state_dict()
    heads = ("classifier", "pooler", "score")
    return {
        name: after[name] - value
        for name, value in plain.state_dict().items()
        if not any(head in name for head in heads)
    }


@pytest.mark.parametrize(
    ("family", "settings", "weights"),
    [
        ("bert", {}, (0.7, 0.3)),
        ("gpt2", {}, (1.0, -0.5)),
        ("bert", {"use_rslora": True}, (2.0, 1.0)),
        ("bert", {"init": "pissa"}, (0.5, 0.5)),
    ],
)
def test_added_exactly(
    family: str, settings: dict[str, Any], weights: tuple[float, float], tiny_of: Folder,
    tmp_path: Path,
) -> None:  # fmt: skip
    base = tiny_of(family)
    one = made(base, tmp_path / "a", rank=4, **settings)
    other = made(base, tmp_path / "b", rank=2, seed=2, alpha=8.0, **settings)
    told = combine.add([read(one), read(other)], weights, tmp_path / "c")
    both = 2 if "init" in settings else 1
    assert told["rank"] == 6 * both and told["error"] < 1e-5
    first, second = changes(one, base), changes(other, base)
    for name, change in changes(tmp_path / "c", base).items():
        wanted = weights[0] * first[name] + weights[1] * second[name]
        torch.testing.assert_close(change, wanted, atol=1e-5, rtol=1e-4)
    heads = [{n: v for n, v in load_file(f / "adapter_model.safetensors").items()
              if read(f).is_head(n)} for f in (one, other, tmp_path / "c")]  # fmt: skip
    for name, value in heads[2].items():
        total = sum(weights)
        w = [w / total for w in weights] if min(weights) > 0 else (1.0, 0.0)
        torch.testing.assert_close(value, w[0] * heads[0][name] + w[1] * heads[1][name])
    said = "disagree" if min(weights) > 0 else "have no mean"
    assert any(said in note for note in told["notes"]), told["notes"]


def test_added_roughly(tiny_of: Folder, tmp_path: Path) -> None:
    base = tiny_of("bert")
    files = [read(made(base, tmp_path / n, rank=4, seed=i)) for i, n in enumerate("ab")]
    svd = combine.add(files, [0.5, 0.5], tmp_path / "svd", "svd", rank=8)
    assert svd["rank"] == 8 and svd["error"] < 1e-4, "nothing is lost at the sum of the ranks"
    small = combine.add(files, [0.5, 0.5], tmp_path / "small", "svd")
    rough = combine.add(files, [0.5, 0.5], tmp_path / "rough", "linear")
    assert small["rank"] == rough["rank"] == 4
    assert 0.05 < small["error"] < rough["error"]
    assert any("cat is exact" in note for note in rough["notes"])


@pytest.mark.parametrize("method", ["ia3", "layernorm"])
def test_factors_and_norms_are_added(method: str, tiny_of: Folder, tmp_path: Path) -> None:
    base = tiny_of("bert")
    one, other = (made(base, tmp_path / n, method, seed=i) for i, n in enumerate("ab"))
    combine.add([read(one), read(other)], [0.25, 0.75], tmp_path / "c")
    first, second, both = (changes(f, base) for f in (one, other, tmp_path / "c"))
    for name, change in both.items():
        wanted = 0.25 * first[name] + 0.75 * second[name]
        torch.testing.assert_close(change, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", ["lora", "adapter", "prompt_tuning", "ia3"])
def test_averaged(method: str, tiny_of: Folder, tmp_path: Path) -> None:
    files = [read(made(tiny_of("bert"), tmp_path / n, method, seed=i)) for i, n in enumerate("abc")]
    told = combine.average(files, tmp_path / "mean")
    loaded = [load_file(file.weights) for file in files]
    mean = load_file(tmp_path / "mean" / "adapter_model.safetensors")
    assert mean.keys() == loaded[0].keys()
    for name, value in mean.items():
        torch.testing.assert_close(value, torch.stack([one[name] for one in loaded]).mean(0))
    assert any("exact" in note for note in told["notes"]) == (method == "lora")
    again = combine.average([files[0], files[0]], tmp_path / "same")
    same(outputs(tmp_path / "same"), outputs(files[0].folder))
    assert again["error"] < 1e-6


def test_what_does_not_go_together(tiny_of: Folder, tmp_path: Path) -> None:
    base = tiny_of("bert")
    one = read(made(base, tmp_path / "a", rank=4))
    wide = read(made(base, tmp_path / "b", rank=8))
    ia3 = read(made(base, tmp_path / "c", "ia3"))
    other = read(made(tiny("bert", tmp_path / "base", seed=5), tmp_path / "d", rank=4))
    named = read(made(base, tmp_path / "e", rank=4, labels=["yes", "no", "maybe"]))
    dora = read(made(base, tmp_path / "f", use_dora=True))
    out = tmp_path / "out"
    for files, kind, said in [
        ([one, wide], RunError, "different settings: lora_alpha|different settings: r is 4 and 8"),
        ([one, ia3], RunError, "different methods: lora and ia3"),
        ([one, other], BaseModelError, "different bases"),
        ([one, named], RunError, "different labels.*bad, good, plain; yes, no, maybe"),
        ([one], RunError, "at least two"),
    ]:
        with pytest.raises(kind, match=said):
            combine.average(files, out)
    with pytest.raises(RunError, match="adapter of DoRA"):
        combine.add([dora, dora], [0.5, 0.5], out)
    assert not out.exists()


def test_the_base_is_known_by_its_sum(
    tiny_of: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny("bert", tmp_path / "base", seed=3)
    file = read(made(base, tmp_path / "a"))
    assert base_state(file) == "present"
    with pytest.raises(BaseModelError, match="is not the base that"):
        base_of_file(file, str(tiny_of("bert")))
    moved = base.rename(tmp_path / "moved")
    assert base_state(file) == "absent"
    with pytest.raises(BaseModelError, match="say where it is now in base_model_name_or_path"):
        base_of_file(file)
    combine.merge(file, tmp_path / "m", str(moved))
    assert base_state(file) == "present", "where it was last used"
    shutil.rmtree(moved)
    tiny("bert", base, seed=4)
    monkeypatch.chdir(tmp_path)
    assert base_state(read(file.folder)) == "another"


def test_a_hub_is_not_asked_for_a_base_without_a_word(
    tiny_of: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    folder = made(tiny_of("bert"), tmp_path / "a")
    note = json.loads((folder / "warmstart.json").read_text())
    changes = {"base": "evil/base", "base_source": "hub", "base_sha256": "0" * 64}
    (folder / "warmstart.json").write_text(json.dumps({**note, **changes}))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BaseModelError):
        base_of_file(read(folder))
    assert "names 'evil/base' as its base: the hub is asked" in capsys.readouterr().err


def by_peft(base: Path, out: Path, **more: Any) -> Any:
    """An adapter that PEFT alone has made and saved."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification

    with quiet(), torch.random.fork_rng():
        torch.manual_seed(0)
        plain = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
        config = LoraConfig(r=4, task_type="SEQ_CLS", init_lora_weights=False, **more)
        model = get_peft_model(plain, config)
        model.save_pretrained(str(out))
    return model.eval()


@pytest.mark.parametrize(
    ("family", "more"),
    [("roberta", {}), ("gpt2", {}), ("bert", {"modules_to_save": ["classifier", "pooler"]})],
)
def test_an_adapter_of_peft(family: str, more: Any, tiny_of: Folder, tmp_path: Path) -> None:
    base = tiny_of(family)
    model = by_peft(base, tmp_path / "a", **more)
    file = read(tmp_path / "a")
    assert (file.method, file.rank, file.head.name, file.labels) == ("lora", 4, "classes", [])
    assert base_state(file) == "unknown"
    with opened(file) as folder:
        torch.testing.assert_close(answers(load_saved(folder)[0]), answers(model))
    combine.merge(file, tmp_path / "m")
    torch.testing.assert_close(answers(load_saved(tmp_path / "m")[0]), answers(model),
                               atol=1e-5, rtol=1e-5)  # fmt: skip


def test_an_adapter_of_peft_without_its_head(tiny_of: Folder, tmp_path: Path) -> None:
    by_peft(tiny_of("bert"), tmp_path / "a")
    path = tmp_path / "a" / "adapter_model.safetensors"
    save_file({n: v for n, v in load_file(path).items() if "classifier" not in n}, path)
    with pytest.raises(RunError, match="lacks a part of its head"):
        combine.merge(read(tmp_path / "a"), tmp_path / "m")


def test_what_is_made_loads_in_peft(tiny_of: Folder, tmp_path: Path) -> None:
    from peft import PeftModel

    base = tiny_of("bert")
    files = [read(made(base, tmp_path / n, rank=4, seed=i)) for i, n in enumerate("ab")]
    combine.add(files, [0.5, 0.5], tmp_path / "c")
    config = json.loads((tmp_path / "c" / "adapter_config.json").read_text())
    assert config["modules_to_save"] and config["task_type"] == "SEQ_CLS"
    with quiet():
        theirs: Any = PeftModel.from_pretrained(classifier(base), tmp_path / "c")
    torch.testing.assert_close(answers(theirs), answers(load_saved(tmp_path / "c")[0]))


def test_what_is_no_adapter(tiny_of: Folder, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="a whole model, not an adapter"):
        read(tiny_of("bert"))
    with pytest.raises(RunError, match="there is no folder"):
        read(tmp_path / "nothing")
    folder = made(tiny_of("bert"), tmp_path / "a")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(RunError, match="pickled"):
        read(folder)
