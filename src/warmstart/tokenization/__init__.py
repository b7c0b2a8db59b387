"""Tokenizers: trained on a corpus, shown, compared, and extended with the words of a domain."""
