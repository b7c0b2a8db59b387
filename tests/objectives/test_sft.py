"""The loss of conversations: TRL's, whatever the batch, packed or not, and no padding learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers

from chats import TALK, smollm2_like, talker
from warmstart.data.conversations import write
from warmstart.errors import RecipeError
from warmstart.models.base import resolve
from warmstart.models.forward import Forward
from warmstart.models.loading import load_tokenizer
from warmstart.objectives.sft import SFT, packs
from warmstart.tasks.chat import Chat
from warmstart.training.datasets import WrittenRows

LONGER = [
    *TALK,
    {"role": "user", "content": "Say it again, and longer than before."},
    {"role": "assistant", "content": "It was this, and it is this."},
]
ROWS = [TALK[:2], LONGER, TALK, [TALK[0], {"role": "assistant", "content": "No."}]]


class Case:
    """A tiny model, its conversations, and an objective that is set up."""

    def __init__(self, folder: Path, family: str = "llama", **settings: Any) -> None:
        talker(folder, family=family)
        self.model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        self.tokenizer = load_tokenizer(resolve(str(folder)))
        self.task = Chat.model_validate({"max_new_tokens": 8, **settings})
        self.table = pa.table({"messages": [write(row) for row in ROWS], "tools": [""] * len(ROWS)})
        self.store = self.task.encode(self.table, [], self.tokenizer, 700)
        self.forward = Forward(self.model)
        self.forward.prepare(torch.float32, torch.device("cpu"), checkpointing=False)
        self.forward.training = False  # without dropout
        self.rows = WrittenRows(
            self.store, self.forward.language, self.tokenizer.pad_token_id, self.forward.device
        )

    def loss(self, rows: list[int], *, packing: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum and weight of some rows in one batch."""
        objective = SFT(packing=packing).model_copy()
        objective.setup(self)  # pyright: ignore[reportArgumentType]
        batch = objective.collate(self.rows, np.array(rows), np.random.default_rng(0))
        loss = objective.loss(self.forward, batch)
        return loss.total, loss.weight

    def gradients(self, total: torch.Tensor) -> dict[str, torch.Tensor]:
        self.model.zero_grad()
        total.backward()
        return {n: p.grad.clone() for n, p in self.model.named_parameters() if p.grad is not None}


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("sft") / "base")


def test_padding_is_not_learned_and_every_end_is(case: Case) -> None:
    """transformers#23530: with pad = EOS each row's own end keeps its label, and no pad has one."""
    assert case.tokenizer.pad_token_id == case.tokenizer.eos_token_id
    batch = SFT().collate(case.rows, np.arange(4), np.random.default_rng(0))
    end = case.tokenizer.eos_token_id
    for row, messages in enumerate(ROWS):
        wanted = batch.targets[row][batch.targets[row] != -100].tolist()
        answers = [m["content"] for m in messages if m["role"] == "assistant"]
        assert case.tokenizer.decode(wanted) == "".join(f"{a}<|im_end|>" for a in answers)
        assert wanted.count(end) == len(answers)
        assert (batch.targets[row][batch.inputs["mask"][row] == 0] == -100).all()


def test_loss_and_gradients_are_trls(case: Case) -> None:
    """TRL 1.16, SFT on the assistant's tokens, with the same template given marks."""
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    marked = smollm2_like().chat_template.replace(
        "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}",
        "{{'<|im_start|>' + message['role'] + '\n'}}{% if message['role'] == 'assistant' %}"
        "{% generation %}{{message['content'] + '<|im_end|>'}}{% endgeneration %}{{'\n'}}"
        "{% else %}{{message['content'] + '<|im_end|>\n'}}{% endif %}",
    )
    tokenizer = load_tokenizer(resolve(case.model.name_or_path))
    tokenizer.chat_template = marked
    arguments = trl.SFTConfig(
        output_dir=case.model.name_or_path + "-trl", assistant_only_loss=True, max_length=700,
        packing=False, padding_free=False, bf16=False, fp16=False, use_cpu=True, seed=0,
        activation_checkpointing=False, per_device_train_batch_size=4, report_to=[],
        completion_only_loss=None, loss_type="nll", dataset_num_proc=None, shuffle_dataset=False,
    )  # fmt: skip
    data = Dataset.from_list([{"messages": row} for row in ROWS])
    trainer = trl.SFTTrainer(
        model=case.model, args=arguments, train_dataset=data, processing_class=tokenizer
    )
    case.model.eval()
    batch = trainer.data_collator([trainer.train_dataset[n] for n in range(4)])
    case.model.zero_grad()
    theirs = trainer.compute_loss(case.model, dict(batch))
    theirs.backward()
    their_gradients = {
        n: p.grad.clone() for n, p in case.model.named_parameters() if p.grad is not None
    }
    total, weight = case.loss([0, 1, 2, 3])
    assert float(weight) == int((batch["labels"] != -100).sum())
    assert float((total / weight).detach()) == pytest.approx(float(theirs.detach()), abs=1e-5)
    ours = case.gradients(total / weight)
    assert ours.keys() == their_gradients.keys()
    for name, gradient in ours.items():
        assert torch.allclose(gradient, their_gradients[name], atol=1e-5), name


def test_accumulation_is_exact(case: Case) -> None:
    """4 × 1 = 1 × 4 with unequal numbers of tokens (transformers#35203)."""
    whole, weight = case.loss([0, 1, 2, 3])
    wanted = case.gradients(whole / weight)
    case.model.zero_grad()
    parts = [case.loss([n]) for n in range(4)]
    summed = sum(part[1] for part in parts)
    for total, _ in parts:
        (total / summed).backward()
    for name, parameter in case.model.named_parameters():
        assert torch.allclose(parameter.grad, wanted[name], atol=1e-6), name


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_packed_conversations_do_not_see_each_other(family: str, tmp_path: Path) -> None:
    """GPT-2's places are learned, so that a place that runs on would show (nanoVLM#201)."""
    own = Case(tmp_path / family, family)
    alone = [own.loss([n])[0] for n in range(4)]
    packed, weight = own.loss([0, 1, 2, 3], packing=True)
    assert float(packed.detach()) == pytest.approx(float(sum(alone).detach()), rel=1e-6)
    assert float(weight) == sum(float(own.loss([n])[1]) for n in range(4))
    objective = SFT(packing=True).model_copy()
    objective.setup(own)  # pyright: ignore[reportArgumentType]
    batch = objective.collate(own.rows, np.array([1, 2]), np.random.default_rng(0))
    pieces = batch.inputs["pieces"]
    assert pieces.unique().tolist() == [0, 1]
    other = {**batch.inputs, "ids": torch.where(pieces == 0, 7, batch.inputs["ids"])}
    with torch.no_grad():
        first, second = (
            own.forward.language.forward(**inputs, training=False).logits()
            for inputs in (batch.inputs, other)
        )
    assert torch.equal(first[pieces == 1], second[pieces == 1])
    assert not torch.allclose(first[pieces == 0], second[pieces == 0])


def test_packs_are_whole_and_full(case: Case) -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 400, 60).tolist()
    bins = packs(lengths, 1024)
    assert sorted(row for pack in bins for row in pack) == list(range(60))
    assert all(sum(lengths[row] for row in pack) <= 1024 for pack in bins)
    assert len(bins) == -(-sum(lengths) // 1024)
    objective = SFT(packing=True).model_copy()
    objective.setup(case)  # pyright: ignore[reportArgumentType]
    batch = objective.collate(case.rows, np.arange(4), np.random.default_rng(0))
    for piece in range(4):  # each is one whole conversation, from its beginning
        inside = batch.inputs["ids"][batch.inputs["pieces"] == piece].tolist()
        assert case.tokenizer.decode(inside).startswith("<|im_start|>system")
    loss = objective.loss(case.forward, batch)
    assert 0 < float(loss.metrics["fill"] / loss.weight) <= 1


def test_packing_that_cannot_be_done_is_an_error(tmp_path: Path) -> None:
    """unslothai/unsloth#7234: BLOOM's places come from the mask, so its texts would move."""
    config = transformers.AutoConfig.for_model(
        "bloom", hidden_size=32, n_layer=2, n_head=2, vocab_size=300
    )
    forward = Forward(transformers.AutoModelForCausalLM.from_config(config).eval())
    setting: Any = type("S", (), {"forward": forward, "tokenizer": smollm2_like()})()
    with pytest.raises(RecipeError, match=r"objective\.packing: this base cannot"):
        SFT(packing=True).model_copy().setup(setting)
