"""The built-in encoder guards: ONNX Runtime and a tokenizer, and n-grams beside them where a bundle has some.

Long texts are scored in overlapping windows whose odds are averaged, within limits (`windows.mean_odds`). The last line
of a long text is also read alone: a request often follows a passage, and in a window it is read as that passage's end.

A model may say, beside its labels, what a text does (`ACTS`). Then a last line is unsafe as far as it is an unsafe
*request*: an answer's last line is none, and alone it lacks its context. And an answer beside its prompt is unsafe as
far as it is so by itself, or as both together are and it does not decline: no harm comes of a refusal, whatever was
asked. Without acts the line counts in full, and no answer declines.

An encoder reads, n-grams know words, and their mistakes differ: the sum of their logits ranks texts better than either,
and n-grams cost next to nothing ("wide and deep", Cheng et al. 2016, arXiv 1606.07792, who train both parts together;
here each is trained alone, and one number joins them).
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wardgate.guards.batching import plan_batches, windows
from wardgate.guards.ngrams import BATCH
from wardgate.guards.scores import Link, Scores, View
from wardgate.guards.windows import both, last_line, mean_odds
from wardgate.hazards import WARDGATE, LabelMap

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import onnxruntime
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from wardgate.guards.ngrams import NgramGuard

ACTS = ("asks", "declines")
"""What a model may say of a text beside its labels: that it asks for something; that it is an answer that declines."""

_UNTOLD = np.array([np.inf, -np.inf], dtype=np.float32)
"""What a text does where the model does not say: it asks, and does not decline."""

_BOS, _PAD, _EOS = 0, 1, 2  # XLM-R's ids, kept by the trimmed vocabulary


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """How texts are cut and batched.

    Attributes:
        window: tokens per window, special tokens included.
        overlap: tokens that neighbouring windows share.
        batch_tokens: padded tokens per run. A token costs the same in a small run as in a large one, about 130
            microseconds on two cores, so that large runs only buy padding: 4,096 took 1.4 times as long as 192.
        max_characters: longer texts are not scored but reported as failed: scoring only a part would let the
            rest pass unseen, and the policy names what happens to them (review, by default).
        threads: threads of the runtime; 0 takes `OMP_NUM_THREADS`, or the cores this process may use.
    """

    window: int = 160
    overlap: int = 32
    batch_tokens: int = 192
    max_characters: int = 400_000
    threads: int = 0


@dataclass(frozen=True, slots=True)
class Beside:
    """N-grams that are asked about the same pieces of text as the encoder.

    Attributes:
        guard: the n-grams, with the encoder's labels.
        share: what their logits are multiplied with before they are added.
        floor: their lowest logit that counts. N-grams average over a piece, so that harmless words around a harmful
            request drag them down without limit; what they can take from the encoder's logit is `share` times this.
    """

    guard: NgramGuard
    share: float
    floor: float = -1.0

    def adds(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """What is added to the encoder's logits of these texts. *Shape:* float32 (n, labels)."""
        counted = np.empty((len(texts), len(self.guard.labels.labels)), dtype=np.float32)
        # A piece has few tokens but may have many letters: spaces, or one endless word.
        for group in plan_batches([len(t) + 2 for t in texts], BATCH):
            counted[group] = np.maximum(self.guard.logits([texts[i] for i in group]), self.floor)
        return np.float32(self.share) * counted


class EncoderGuard:
    """A multi-label encoder in ONNX with its tokenizer.

    Attributes:
        name: the guard's name.
        labels: what its logits mean.
        link: always sigmoid.
    """

    link = Link.SIGMOID

    def __init__(
        self,
        name: str,
        model: Path,
        tokenizer: Path,
        *,
        labels: LabelMap = WARDGATE,
        settings: EncoderSettings | None = None,
        beside: Beside | None = None,
    ) -> None:
        """Load the model.

        Raises:
            ValueError: if a file is not what it should be, the message naming the file; or if the n-grams beside it
                have other labels.
        """
        if beside is not None and beside.guard.labels.labels != labels.labels:
            raise ValueError(f"{name!r} and the n-grams beside it do not answer the same labels")
        self._beside = beside
        self.name = name
        self.labels = labels
        self.settings = settings or EncoderSettings()
        self._session = _session(model, self.settings.threads)
        self._tokenizer = _tokenizer(tokenizer)

    def score(self, batch: Sequence[View]) -> Scores:
        """Score a batch; rows keep the order given."""
        fits = [len(v.joined) <= self.settings.max_characters for v in batch]
        rows = [i for i, ok in enumerate(fits) if ok]
        logits = np.full((len(batch), len(self.labels.labels)), np.nan, dtype=np.float32)
        ms = np.zeros(len(batch), dtype=np.float32)
        if rows:
            logits[rows], ms[rows] = self._judged([batch[i] for i in rows])
        return Scores.of_fitting(
            self.name, self.labels.labels, self.link, logits, ms, fits=fits, limit=self.settings.max_characters
        )

    def _judged(self, views: Sequence[View]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        answers = {i: v.response for i, v in enumerate(views) if v.response is not None}
        z, declines, ms = self._windowed(
            self._cut([_clean(t) for t in [*(v.joined for v in views), *answers.values()]])
        )
        whole, alone, answered = len(views), slice(len(views), None), list(answers)
        z[answered] = np.maximum(z[alone], both(z[answered], -declines[alone, None]))
        ms[answered] += ms[alone]
        return z[:whole], ms[:whole]

    def _cut(self, texts: Sequence[str]) -> list[_Cut]:
        size = self.settings.window - 2
        found = [e.ids for e in self._tokenizer.encode_batch_fast(texts)]
        cuts = [_Cut([_Piece(ids, text)]) for ids, text in zip(found, texts, strict=True)]
        long = [row for row, ids in enumerate(found) if len(ids) > size]
        lines = [last_line(texts[row]) for row in long]
        # Only this slower call says where in the text a token lies.
        for row, whole in zip(long, self._tokenizer.encode_batch([texts[row] for row in long]), strict=True):
            ids, offsets, text = whole.ids, whole.offsets, texts[row]  # each asking copies the whole list
            cuts[row] = _Cut(
                [
                    _Piece(ids[p.start : p.stop], text[offsets[p[0]][0] : offsets[p[-1]][1]])
                    for p in windows(range(len(ids)), size, self.settings.overlap)
                ]
            )
        for row, line, e in zip(long, lines, self._tokenizer.encode_batch_fast(lines), strict=True):
            if len(e.ids) <= size:
                cuts[row] = _Cut(cuts[row].windows, _Piece(e.ids, line))
        return cuts

    def _windowed(self, cuts: Sequence[_Cut]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Of each text its logits, that of its first window declining, and milliseconds."""
        pieces = [piece for cut in cuts for piece in cut.pieces]
        lengths = np.array([len(p.ids) + 2 for p in pieces])
        z = np.zeros((len(pieces), len(self.labels.labels)), dtype=np.float32)
        acts = np.tile(_UNTOLD, (len(pieces), 1))
        each = np.zeros(len(pieces), dtype=np.float32)
        if self._beside is not None:
            started = time.perf_counter()
            z += self._beside.adds([p.text for p in pieces])
            each += (time.perf_counter() - started) * 1000 * lengths / lengths.sum()
        for group in plan_batches(lengths.tolist(), self.settings.batch_tokens):
            started = time.perf_counter()
            logits, *more = self._run([pieces[i].ids for i in group])
            z[group] += logits
            if more:
                acts[group] = more[0]
            each[group] += (time.perf_counter() - started) * 1000 * lengths[group] / lengths[group].sum()
        bounds = np.cumsum([0, *(len(cut.pieces) for cut in cuts)])
        asks, declines = acts.T
        out = np.stack([_whole(z[a:b], asks[b - 1], cut) for a, b, cut in zip(bounds, bounds[1:], cuts, strict=False)])
        return out, declines[bounds[:-1]], np.add.reduceat(each, bounds[:-1])

    def _run(self, pieces: Sequence[list[int]]) -> list[NDArray[np.float32]]:
        width = max(len(p) for p in pieces) + 2
        ids = np.full((len(pieces), width), _PAD, dtype=np.int64)
        ids[:, 0] = _BOS
        for row, piece in enumerate(pieces):
            ids[row, 1 : len(piece) + 1] = piece
            ids[row, len(piece) + 1] = _EOS
        found: list[NDArray[np.float32]] = self._session.run(None, {"ids": ids, "mask": (ids != _PAD).astype(np.int32)})
        return found


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch of text with its tokens."""

    ids: list[int]
    text: str


@dataclass(frozen=True, slots=True)
class _Cut:
    """The windows of a text, and its last line where it is read alone."""

    windows: list[_Piece]
    line: _Piece | None = None

    @property
    def pieces(self) -> list[_Piece]:
        return self.windows if self.line is None else [*self.windows, self.line]


def _whole(logits: NDArray[np.float32], asks: np.float32, cut: _Cut) -> NDArray[np.float32]:
    row = mean_odds(logits[: len(cut.windows)])
    return row if cut.line is None else np.maximum(row, both(logits[-1], asks))


def _clean(text: str) -> str:
    """Lone surrogates cannot be encoded as UTF-8, which the tokenizer needs: they become U+FFFD."""
    return text.encode("utf-8", "replace").decode("utf-8") if not text.isascii() else text


def _tokenizer(path: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 - the library raises a bare Exception for whatever is wrong
        raise ValueError(f"{path.name} is not a tokenizer: {type(error).__name__}") from None
    tokenizer.encode_special_tokens = True  # a user may type "</s>": it is text, not structure
    tokenizer.post_processor = None  # windows add their own special tokens
    return tokenizer


def usable_cores() -> int:
    """The cores this process may use: in a container fewer than the machine has, and on Ray a worker's own share.

    Ray tells a worker its share by `OMP_NUM_THREADS`; without it, two workers on two cores would run four threads.
    """
    told = os.environ.get("OMP_NUM_THREADS", "")
    if told.isdecimal() and int(told):
        return int(told)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = True
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - the runtime has one exception class per status code, without a base
        raise ValueError(f"{path.name} is not a model that ONNX Runtime can load ({type(error).__name__})") from None
