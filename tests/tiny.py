"""Tiny random models of every family, with a tokenizer that fits: no download, a few kilobytes.

folder = tiny("bert", tmp_path / "bert")
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

WORDS = (
    "the a is was not very great good fine nice bad awful poor film movie song book service "
    "food and but i liked hated loved it this that never again money back late early order "
    "red green blue one two three . , ! ?"
).split()
BERT_LIKE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
             "intermediate_size": 64, "max_position_embeddings": 66}  # fmt: skip
LLAMA_LIKE = BERT_LIKE | {"num_key_value_heads": 1, "tie_word_embeddings": True}
BART_LIKE = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
             "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 64,
             "decoder_ffn_dim": 64, "max_position_embeddings": 64}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": BERT_LIKE,
    "roberta": BERT_LIKE,
    "xlm-roberta": BERT_LIKE,
    "electra": BERT_LIKE | {"embedding_size": 16},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64,
                   "max_position_embeddings": 64},
    "modernbert": BERT_LIKE | {"global_attn_every_n_layers": 2, "local_attention": 16},
    "xlnet": {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64},
    "llama": LLAMA_LIKE,
    "mistral": LLAMA_LIKE,
    "qwen2": LLAMA_LIKE,
    "qwen3": LLAMA_LIKE | {"head_dim": 16},
    "t5": {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2},
    "bart": BART_LIKE,
    "mbart": BART_LIKE,
    "pegasus": BART_LIKE,
}  # fmt: skip
T5_LIKE, GPT_LIKE = CONFIGS["t5"], {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}
OTHERS: dict[str, dict[str, Any]] = {
    "albert": BERT_LIKE | {"embedding_size": 16},
    "big_bird": BERT_LIKE | {"attention_type": "original_full"},
    "camembert": BERT_LIKE,
    "canine": BERT_LIKE,
    "convbert": BERT_LIKE | {"embedding_size": 32},
    "data2vec-text": BERT_LIKE,
    "deberta": BERT_LIKE,
    "deberta-v2": BERT_LIKE | {"relative_attention": True},
    "ernie": BERT_LIKE,
    "eurobert": LLAMA_LIKE,
    "fnet": BERT_LIKE,
    "layoutlm": BERT_LIKE,
    "longformer": BERT_LIKE | {"attention_window": 8, "max_position_embeddings": 80},
    "megatron-bert": BERT_LIKE,
    "mobilebert": BERT_LIKE | {"embedding_size": 16, "intra_bottleneck_size": 16,
                               "true_hidden_size": 16},
    "mpnet": BERT_LIKE,
    "nystromformer": BERT_LIKE | {"segment_means_seq_len": 64},
    "rembert": BERT_LIKE | {"input_embedding_size": 16, "output_embedding_size": 32},
    "roberta-prelayernorm": BERT_LIKE,
    "roformer": BERT_LIKE | {"embedding_size": 32},
    "splinter": BERT_LIKE,
    "squeezebert": BERT_LIKE | {"embedding_size": 32},
    "xmod": BERT_LIKE | {"languages": ["en_XX"], "default_language": "en_XX"},
    "yoso": BERT_LIKE,
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 2},
    "falcon": BERT_LIKE,
    "gemma": LLAMA_LIKE | {"head_dim": 16},
    "gpt_bigcode": GPT_LIKE,
    "gpt_neo": {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "max_position_embeddings": 64,
                "attention_types": [[["global", "local"], 1]]},
    "gpt_neox": BERT_LIKE,
    "gptj": GPT_LIKE | {"rotary_dim": 8},
    "mixtral": LLAMA_LIKE | {"num_local_experts": 2},
    "opt": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 64,
            "max_position_embeddings": 66, "word_embed_proj_dim": 32},
    "phi": BERT_LIKE,
    "bigbird_pegasus": BART_LIKE | {"attention_type": "original_full"},
    "blenderbot": BART_LIKE,
    "led": BART_LIKE | {"max_encoder_position_embeddings": 64,
                        "max_decoder_position_embeddings": 64, "attention_window": 8},
    "longt5": T5_LIKE,
    "m2m_100": BART_LIKE,
    "marian": BART_LIKE,
    "mt5": T5_LIKE,
    "mvp": BART_LIKE,
    "plbart": BART_LIKE,
    "umt5": T5_LIKE,
}  # fmt: skip
"""Families that stand in no table of ours."""
DECODERS = ("gpt2", "llama", "mistral", "qwen2", "qwen3", "bloom", "falcon", "gemma",
            "gpt_bigcode", "gpt_neo", "gpt_neox", "gptj", "mixtral", "opt", "phi")  # fmt: skip
SEQ2SEQ = ("t5", "bart", "mbart", "pegasus", "bigbird_pegasus", "blenderbot", "led", "longt5",
           "m2m_100", "marian", "mt5", "mvp", "plbart", "umt5")  # fmt: skip


def tiny(
    family: str,
    folder: str | Path,
    vocab_words: Sequence[str] = WORDS,
    seed: int = 0,
    **settings: Any,
) -> Path:
    """Save a random body of `family` and its tokenizer in `folder`, and return it.

    `settings` replace values of the config, such as `num_hidden_layers`.
    """
    import torch
    from transformers import AutoConfig, AutoModel

    from warmstart.models.hf_calls import quiet

    folder = Path(folder)
    tokenizer = tiny_tokenizer(family, vocab_words)
    config = AutoConfig.for_model(
        family,
        **{**CONFIGS, **OTHERS}[family]
        | {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        | {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
        | ({"cls_token_id": 1, "sep_token_id": 2} if family == "modernbert" else {})
        | ({"decoder_start_token_id": tokenizer.pad_token_id} if family in SEQ2SEQ else {})
        | settings,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModel.from_config(config)
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def tiny_tokenizer(family: str, words: Sequence[str] = WORDS) -> Any:
    """Words, and the special tokens that the family's own tokenizer would put around a text.

    Qwen2 gets single bytes instead of words.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

    if family == "qwen2":  # transformers makes its own tokenizer of whatever stands in the folder
        alphabet = ["<|endoftext|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
        return Qwen2Tokenizer(vocab={t: i for i, t in enumerate(alphabet)}, merges=[])
    special = ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*special, *words]))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    single = {"t5": "$A </s>", "pegasus": "$A </s>", "xlnet": "$A </s> <s>"}
    pairs = {"longformer": "<s> $A </s> </s> $B </s>"}
    typed = dict.fromkeys(("bert", "electra"), "<s>:0 $A:0 </s>:0 $B:1 </s>:1")
    typed["xlnet"] = "$A:0 </s>:0 $B:1 </s>:1 <s>:2"
    if family not in DECODERS:
        backend.post_processor = processors.TemplateProcessing(
            single=single.get(family, "<s> $A </s>"),
            pair=typed.get(family)
            or pairs.get(family)
            or single.get(family, "<s> $A </s>").replace(" </s>", " </s> $B </s>", 1),
            special_tokens=[("<s>", 1), ("</s>", 2)],
        )
    named = {"unk_token": "<unk>", "eos_token": "</s>"}
    if family not in DECODERS:
        named |= {"pad_token": "<pad>", "mask_token": "<mask>", "bos_token": "<s>"}
        named |= {"cls_token": "<s>", "sep_token": "</s>"}
    inputs = ["token_type_ids"] if family in ("bert", "electra") else []
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=64,
        padding_side="left" if family == "xlnet" else "right",
        model_input_names=["input_ids", *inputs, "attention_mask"],
        **named,
    )


def classifier(family: str, folder: Path, **changes: Any) -> Path:
    """A saved classifier of a tiny body, as any other tool would save it."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    from warmstart.models.hf_calls import quiet

    tiny(family, folder)
    labels = {0: "no", 1: "maybe", 2: "yes"}
    config = AutoConfig.from_pretrained(folder, id2label=labels, **changes)
    torch.manual_seed(0)
    with quiet():
        AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    return folder


def writer(
    folder: Path, family: str = "llama", template: str | None = None, **settings: Any
) -> Path:
    """A saved tiny model that writes, of large weights, with a chat template or none; `settings`
    as in `tiny`."""
    import torch
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForSeq2SeqLM,
        AutoTokenizer,
    )

    from warmstart.models.hf_calls import quiet

    tiny(family, folder, **settings)
    config = AutoConfig.from_pretrained(folder)
    auto: Any = AutoModelForSeq2SeqLM if family in SEQ2SEQ else AutoModelForCausalLM
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = auto.from_config(config)
        with torch.no_grad():
            for weights in model.parameters():
                weights.mul_(4.0 if weights.ndim == 2 else 1.0)
        model.save_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.chat_template = template
        tokenizer.save_pretrained(folder)
    return folder
