"""The families of the matrix."""

UNDERSTANDING = (
    "bert", "roberta", "distilbert", "electra", "modernbert", "xlnet", "gpt2", "llama",
)  # fmt: skip
WRITING = ("t5", "bart", "pegasus", "gpt2", "llama")
