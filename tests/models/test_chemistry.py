"""Published masked models of reactions (rxnmapper's ALBERT, rxnfp's BERT), where installed.

Both packages ship their weights (MIT licence). Only the files are read, neither is imported, so
`pip install --no-deps` is enough. The weights are pickles, which warmstart refuses, so they are
read as tensors alone (`weights_only`) and written again as safetensors.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

import warmstart

# How SMILES are cut into atoms, bonds and brackets (Schwaller et al. 2018, SI).
ATOMS = (
    r"\[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p|\(|\)|\.|=|#|-|\+|\\|\/|:|~|@|\?|>>?|\*|\$"
    r"|\%[0-9]{2}|[0-9]"
)
SHIPPED = {
    "rxnmapper": ("albert_heads_8_uspto_all_1310k", "AlbertForMaskedLM"),
    "rxnfp": ("bert_pretrained", "BertForPreTraining"),
}
ACIDS = ["CC", "CCC", "CC(C)", "c1ccccc1", "COc1ccc(cc1)", "Clc1ccc(cc1)", "Cc1ccccc1", "CCCCC",
         "FC(F)(F)c1ccc(cc1)", "c1ccncc1", "C1CCCCC1", "O=[N+]([O-])c1ccc(cc1)"]  # fmt: skip
AMINES = ["CCN", "CN", "NCc1ccccc1", "C1CCNCC1", "NC1CCCCC1", "Nc1ccccc1", "Nc1ccc(Cl)cc1",
          "CC(C)N", "C1COCCN1", "NCCc1ccccc1", "COc1ccc(N)cc1", "NCCO"]  # fmt: skip
ALCOHOLS = ["CO", "CCO", "CC(C)O", "OCc1ccccc1", "CCCCO", "OC1CCCCC1"]


def reactions() -> list[str]:
    """Amides and esters of acid chlorides, and acids of their methyl esters: 288 real reactions."""
    rows = list[str]()
    for acid, amine in product(ACIDS, AMINES):
        at = amine.index("N")
        chain, rest = amine[: at + 1], amine[at + 1 :]
        rows.append(f"CCN(CC)CC.ClCCl.{acid}C(=O)Cl.{amine}>>{chain}(C(=O){tail(acid)}){rest}")
    for acid, alcohol in product(ACIDS, ALCOHOLS):
        rows.append(f"{acid}C(=O)Cl.{alcohol}.c1ccncc1>>{acid}C(=O){ester(alcohol)}")
        rows.append(f"{acid}C(=O){ester(alcohol)}.O.[Na+].[OH-]>>{acid}C(=O)O")
    return rows


def tail(acid: str) -> str:
    """The same group written from the end that binds."""
    return {
        "CC": "CC", "CCC": "CCC", "CC(C)": "C(C)C", "c1ccccc1": "c2ccccc2",
        "COc1ccc(cc1)": "c2ccc(OC)cc2", "Clc1ccc(cc1)": "c2ccc(Cl)cc2", "Cc1ccccc1": "c2ccccc2C",
        "CCCCC": "CCCCC", "FC(F)(F)c1ccc(cc1)": "c2ccc(C(F)(F)F)cc2", "c1ccncc1": "c2ccncc2",
        "C1CCCCC1": "C2CCCCC2", "O=[N+]([O-])c1ccc(cc1)": "c2ccc([N+](=O)[O-])cc2",
    }[acid]  # fmt: skip


def ester(alcohol: str) -> str:
    return {"CO": "OC", "CCO": "OCC", "CC(C)O": "OC(C)C", "CCCCO": "OCCCC"}.get(alcohol, alcohol)


def converted(package: str, folder: Path) -> Path:
    """A plain folder of a package's model; the test is skipped where it is not installed."""
    spec = find_spec(package)
    if spec is None or not spec.origin:
        pytest.skip(f"{package} is not installed (pip install --no-deps {package})")
    name, kind = SHIPPED[package]
    source = Path(spec.origin).parent / "models" / "transformers" / name
    weights = torch.load(source / "pytorch_model.bin", weights_only=True, map_location="cpu")
    folder.mkdir()
    whole = {key: value.contiguous().clone() for key, value in weights.items()}
    save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text()) | {"architectures": [kind]}
    config.setdefault("model_type", kind.partition("For")[0].lower())
    (folder / "config.json").write_text(json.dumps(config))
    words = (source / "vocab.txt").read_text().splitlines()
    ids = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    pattern = Regex(ATOMS)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pattern, "isolated")  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(word, ids[word]) for word in ("[CLS]", "[SEP]")],
    )  # fmt: skip
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]", "cls_token": "[CLS]",
        "sep_token": "[SEP]", "pad_token": "[PAD]", "mask_token": "[MASK]",
        "model_max_length": 512,
    }))  # fmt: skip
    return folder


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WARMSTART_CACHE", str(tmp_path / "cache"))


@pytest.mark.slow
@pytest.mark.parametrize("package", sorted(SHIPPED))
def test_masked_loss_of_a_published_model(package: str, tmp_path: Path) -> None:
    """Reactions that a model was made for are no news to it, and 200 steps teach it these."""
    base = converted(package, tmp_path / package)
    rows = reactions()
    held, train = rows[::6], [row for at, row in enumerate(rows) if at % 6]
    keys: dict[str, Any] = {"task": "language_model", "evaluate.bootstrap": 100}
    before = warmstart.evaluate(base, held, **keys)["loss"]["value"]
    run = warmstart.pretrain(
        train, base=str(base), objective="mlm", out=tmp_path / "run",
        **{"train.max_steps": 200, "train.batch_size": 16, "train.learning_rate": 1e-4,
           "task.duplicates": "keep", "evaluate.bootstrap": 100, "train.device": "cpu"},
    )  # fmt: skip
    after = warmstart.evaluate(run.path, held, **keys)["loss"]["value"]
    print(f"{package}: {before:.3f} nats a hidden token before, {after:.3f} after 200 steps")
    assert before < 1.5
    assert after < before
