"""ELECTRA's objective: which tokens did a small generator put in the place of others?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from warmstart.objectives.base import Dataset, Loss
from warmstart.objectives.language import Predictions, by_row
from warmstart.objectives.mlm import MLM

if TYPE_CHECKING:
    import torch

    from warmstart.models.forward import Batch, Forward, Outputs


SAMPLING = 1
"""Tells the random numbers of the generator's samples from those of the masks."""


class ReplacedToken(MLM):
    """Replaced-token detection (Clark et al. 2020): a small masked model, trained beside it, fills
    hidden places; the model says of each token whether it is the original one."""

    heads: ClassVar[frozenset[str]] = frozenset({"language"})
    auto: ClassVar[str] = "AutoModelForPreTraining"
    architectures: ClassVar[frozenset[str]] = frozenset({"electra"})
    predicts_tokens: ClassVar[bool] = False

    generator_size: float = Field(
        default=0.25, gt=0, le=1, description="width of the generator, as a share of the model's"
    )
    detection_weight: float = Field(
        default=50.0, gt=0, description="weight of the detection's loss beside the generator's"
    )

    def build_model(self, task: Any, base: Any, labels: Sequence[str], seed: int) -> Any:
        """The discriminator, with a fresh generator that reads the same word embeddings."""
        import copy

        import transformers

        from warmstart.models.hf_calls import quiet, seeded

        model = super().build_model(task, base, labels, seed)
        config = copy.deepcopy(model.config)
        heads = max(1, round(config.num_attention_heads * self.generator_size))
        width = max(heads * 8, round(config.hidden_size * self.generator_size) // heads * heads)
        config.hidden_size, config.num_attention_heads = width, heads
        config.intermediate_size = max(8, round(config.intermediate_size * self.generator_size))
        with quiet(), seeded(seed):
            _share(transformers.ElectraForMaskedLM(config).eval(), model)
        return model

    def collate(self, dataset: Dataset, rows: np.ndarray, rng: np.random.Generator) -> Batch:
        """Rows with places hidden for the generator, and random numbers for its samples."""
        import torch

        plain = dataset.collate(rows)
        batch, ids = self.hide(plain, rng), plain.inputs["ids"]
        columns = torch.arange(ids.shape[1], device=ids.device)
        mask = (columns < plain.inputs["lengths"][:, None]).long()
        counts = batch.inputs["chosen"].sum(1).tolist()
        numbers = zip(by_row(rng, batch.rows, SAMPLING), counts, strict=True)
        drawn = np.concatenate([own.random(count, np.float32) for own, count in numbers])
        inputs = {
            **batch.inputs, "by": detect, "mask": mask, "original": ids,
            "draws": torch.from_numpy(drawn).to(ids.device),
        }  # fmt: skip
        return replace(batch, weight=mask.sum().float(), inputs=inputs)

    def predictions(self, outputs: Outputs, batch: Batch) -> Predictions:
        """What the generator says of the hidden tokens."""
        assert isinstance(outputs, Mapping)
        return super().predictions(outputs["generator_logits"], batch)

    def final_predictions(self, outputs: Outputs, batch: Batch) -> Predictions:
        """What the discriminator, which is the model that is kept, says of each token: original or
        replaced."""
        import torch

        assert isinstance(outputs, Mapping)
        real = batch.inputs["mask"].bool()
        logits = outputs["logits"].float()[real]
        both = torch.stack([torch.zeros_like(logits), logits], -1)
        return Predictions(both, outputs["changed"][real].long(), real.nonzero()[:, 0])

    def loss(self, model: Forward, batch: Batch) -> Loss:
        """The generator's mean loss, plus the weighted mean loss of the detection."""
        from torch.nn.functional import binary_cross_entropy_with_logits as detection_loss

        outputs = model.forward(batch)
        assert isinstance(outputs, Mapping)
        hidden = self.nll(self.predictions(outputs, batch)) / self.share
        logits, changed = outputs["logits"].float(), outputs["changed"]
        real = batch.inputs["mask"].bool()
        detected = detection_loss(logits[real], changed[real], reduction="sum")
        right = ((logits.detach() > 0) == changed.bool())[real].sum()
        metrics = {"generator_loss": hidden.detach(), "detection_loss": detected.detach(),
                   "detection_accuracy": right.float()}  # fmt: skip
        return Loss(hidden + self.detection_weight * detected, batch.weight, metrics)

    def judged(self, session: Any, outputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the generator did to the test windows, as `detection` [n, 4]: tokens that it
        replaced, tokens there are, the nats of the hidden ones and their number; and as `base_rate`
        [n, 2] the nats a token of somebody who knows how often a token is replaced, and no more,
        with the share that he tells rightly."""
        from warmstart.models.fast.loss import score_targets

        rows, forward = session.rows("test", last=True), session.forward
        figures = np.zeros((len(rows), 4))
        with forward.evaluating():
            for batch, answers in rows.answered(forward):
                figures[batch.rows, 0] = (answers["changed"] * batch.inputs["mask"]).sum(1).cpu()
                figures[batch.rows, 1] = batch.inputs["mask"].sum(1).cpu()
                hidden = self.predictions(answers, batch)
                owner = batch.rows[hidden.rows.cpu().numpy()]
                nll = score_targets(hidden.outputs, hidden.targets).nll.double().numpy()
                np.add.at(figures, (owner, 2), nll)
                np.add.at(figures, (owner, 3), 1)
        changed, whole = figures[:, 0], figures[:, 1]
        share = np.clip(changed.sum() / max(whole.sum(), 1), 1e-9, 1 - 1e-9)
        nats = -changed * np.log(share) - (whole - changed) * np.log1p(-share)
        right = changed if share > 0.5 else whole - changed
        rates = np.stack([nats, right], 1) / np.maximum(whole, 1)[:, None]
        return {"detection": figures, "base_rate": rates}

    def attach(self, model: Any, folder: Path) -> None:
        """The generator beside the discriminator."""
        import transformers

        from warmstart.models.hf_calls import FLOAT32, quiet

        with quiet():
            generator = transformers.ElectraForMaskedLM.from_pretrained(
                folder / "generator", **FLOAT32
            )
        _share(generator.eval(), model)

    def detach(self, model: Any) -> Mapping[str, Any]:
        """The discriminator alone; the generator is kept beside it."""
        generator = model.generator
        del model.generator
        return {"generator": generator}


def _share(generator: Any, model: Any) -> None:
    """Give the generator the embeddings of the discriminator, and put it beside it."""
    own, words = generator.electra.embeddings, model.electra.embeddings
    for name in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
        setattr(own, name, getattr(words, name))
    generator.generator_lm_head.weight = words.word_embeddings.weight
    model.generator = generator


def detect(forward: Forward, inputs: Mapping[str, Any]) -> Mapping[str, torch.Tensor]:
    """The generator fills the hidden places by chance, as likely as it finds each token, and the
    discriminator reads what came out."""
    model: Any = forward.model
    chosen, mask, generator = inputs["chosen"], inputs["mask"], model.generator
    states = generator.electra(input_ids=inputs["ids"], attention_mask=mask).last_hidden_state
    states = generator.generator_predictions(states[chosen][None])
    logits = generator.generator_lm_head(states).float()
    rising = logits[0].detach().softmax(-1).cumsum(-1)
    sampled = (rising < inputs["draws"][:, None] * rising[:, -1:]).sum(-1)
    ids = inputs["original"].clone()
    ids[chosen] = sampled.clamp(max=logits.shape[-1] - 1)
    states = forward.token_states(ids, inputs["lengths"])
    changed = (ids != inputs["original"]).float()
    detected = model.discriminator_predictions(states)
    return {"generator_logits": logits, "logits": detected, "changed": changed}
