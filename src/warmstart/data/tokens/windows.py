"""Documents as windows of tokens: what a model is pretrained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from warmstart.data.tokens.dataset import CHUNK, TokenizedDataset, id_type, offsets_of, uncut
from warmstart.errors import RecipeError

if TYPE_CHECKING:
    import pyarrow as pa

Long = Literal["split", "drop", "crop"]
END_OF_TEXT = "<|endoftext|>"
"""What stands between the documents of GPT-2 and its kin, whatever their end of a turn is."""


def affixes(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special tokens that a tokenizer puts before a text, and those behind it."""
    backend = tokenizer.backend_tokenizer
    whole, bare = backend.encode("a").ids, backend.encode("a", add_special_tokens=False).ids
    at = next(i for i in range(len(whole) + 1) if whole[i : i + len(bare)] == bare)
    return whole[:at], whole[at + len(bare) :]


def separator_of(tokenizer: Any) -> int:
    """The token between the documents of a decoder. Raises `RecipeError` where there is none."""
    end = tokenizer.get_vocab().get(END_OF_TEXT)  # which SmolLM2 also has as its unknown token
    ends = [tokenizer.eos_token_id, tokenizer.sep_token_id] if end is None else [end]
    token = next((token for token in ends if token is not None), None)
    if token is None:
        raise RecipeError(
            "the tokenizer of the base has no token that ends a document (eos_token); name one in "
            "its tokenizer_config.json"
        )
    return int(token)


def document_windows(
    texts: pa.ChunkedArray,
    tokenizer: Any,
    longest: int,
    *,
    long: Long = "split",
    joined: bool = False,
    decodes: bool | None = None,
    on_cut: Callable[[int, int], None] | None = None,
) -> TokenizedDataset:
    """Documents in windows of at most `longest` tokens; `of_row` says of which document each is.

    An encoder or an encoder-decoder reads each window between its special tokens. For a decoder a
    document stands between what its tokenizer begins a text with (or else a separator) and a
    separator, and each window begins with the last token of the one before, so that every token and
    the end of each document are predicted exactly once; such a window has `longest` + 1 tokens, of
    which the last is only predicted.

    Args:
        long: what becomes of a document that is longer than a window: it is split into several,
            dropped, or cropped to its first window. `on_cut(row, tokens)` hears what is lost.
        joined: documents follow one another in the windows, with a separator between them, and see
            each other; a window belongs to the document that it begins in.
        decodes: whether it is for a decoder; unset: where the tokenizer ends no text.
    """
    before, behind = affixes(tokenizer)
    decodes = not behind if decodes is None else decodes
    if decodes:
        behind = behind[:1] or [separator_of(tokenizer)]
        before = before or behind
    room = longest if decodes else longest - len(before) - len(behind)
    if room < 1:
        raise RecipeError(f"max_length {longest} leaves no room for text; raise it")
    kind = id_type(tokenizer.backend_tokenizer)
    pieces, stream, owners = list[np.ndarray](), list[np.ndarray](), list[int]()
    for row, ids in enumerate(_encoded(texts, tokenizer.backend_tokenizer)):
        ids = np.asarray(ids, kind)
        if not joined and len(ids) + decodes > room and long != "split":
            kept = 0 if long == "drop" else room
            if on_cut is not None and len(ids) > kept:
                on_cut(row, len(ids) - kept)
            if not kept:
                continue
            ids = ids[:kept]
        if joined:
            begins = before if decodes and stream and before != behind else []
            stream.append(np.array([*begins, *ids, *behind[:1]], kind))
            continue
        parts = _parts(ids, before, behind, room, decodes, cropped=long == "crop")
        pieces += parts
        owners += [row] * len(parts)
    if joined and stream:
        whole = np.concatenate(stream)[: -len(behind[:1]) or None]
        pieces = _parts(whole, before, behind, room, decodes)
        owners = _owners([len(part) for part in stream], len(pieces), room)
    offsets = offsets_of([len(piece) for piece in pieces])
    flat = np.concatenate([np.empty(0, kind), *pieces])
    taught = np.zeros(len(pieces), np.float32)  # floats: all of it is taught, there is no label
    return TokenizedDataset(flat, offsets, taught, of_row=np.asarray(owners, np.int64))


def _parts(
    ids: np.ndarray,
    before: Sequence[int],
    behind: Sequence[int],
    room: int,
    decodes: bool,
    *,
    cropped: bool = False,
) -> list[np.ndarray]:
    """The windows of one stretch of tokens."""
    start, end = np.asarray(before, ids.dtype), np.asarray(behind, ids.dtype)
    if not decodes:
        return [np.concatenate([start, ids[at : at + room], end])
                for at in range(0, len(ids), room)]  # fmt: skip
    whole = np.concatenate([start, ids] if cropped and len(ids) == room else [start, ids, end])
    return [whole[at : at + room + 1] for at in range(0, len(whole) - 1, room)]


def _owners(sizes: Sequence[int], windows: int, room: int) -> list[int]:
    """In which of joined documents of these sizes each window begins."""
    return np.searchsorted(np.cumsum(sizes), np.arange(windows) * room, side="right").tolist()


def _encoded(texts: pa.ChunkedArray, backend: Any) -> Iterable[list[int]]:
    """The ids of each text, without special tokens."""
    with uncut(backend):
        for array in texts.chunks:
            for start in range(0, len(array), CHUNK):
                rows = array.slice(start, CHUNK).to_pylist()
                for encoding in backend.encode_batch_fast(rows, add_special_tokens=False):
                    yield encoding.ids
