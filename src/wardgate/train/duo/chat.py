"""The generator that DuoGuard plays with: a causal language model, sampled here or on a server, updated by DPO.

Its prompt asks for a rewrite that keeps meaning and label, in another language; it never asks for an answer. What
it writes goes to the run's folder and nowhere else.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import resources
from typing import TYPE_CHECKING, Any, Protocol

import httpx
import yaml

from wardgate.data.rows import DataError
from wardgate.train.duo.filters import rating_of
from wardgate.train.duo.ledger import work_folder
from wardgate.train.duo.moves import OWN, Pair, Proposal, Seed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from wardgate.train.duo.players import Classifier
    from wardgate.train.fitting import Running

    Messages = list[dict[str, str]]

LANGUAGES = {"en": "English", "de": "German", "fr": "French", "es": "Spanish", "it": "Italian", "pt": "Portuguese"}
"""Names for the prompts; another language is named by its code."""


class SamplerError(DataError):
    """A sampler that gives nothing; what was sampled before is on disk."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How rewrites are drawn. DuoGuard's paper says temperature 0.7, its code 0.9."""

    temperature: float = 0.9
    top_p: float = 1.0
    max_tokens: int = 256
    seed: int = 0


class Sampler(Protocol):
    """What continues conversations."""

    def sample(self, prompts: Sequence[Messages], n: int, sampling: Sampling) -> list[list[str]]:
        """N continuations of each."""
        ...


@dataclass(frozen=True)
class LocalSampler:
    """A model from a folder, sampled with transformers.

    Attributes:
        folder: a chat model.
        batch: conversations per pass.
    """

    folder: str
    batch: int = 16

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from wardgate.guards.checkpoint import load_tokenizer
        from wardgate.train.judge import open_chat_model

        tokenizer = load_tokenizer(self.folder, revision=None, gated=False)
        tokenizer.padding_side = "left"
        return open_chat_model(self.folder).eval(), tokenizer

    def sample(self, prompts: Sequence[Messages], n: int, sampling: Sampling) -> list[list[str]]:
        """N continuations of each; the same seed draws the same."""
        import torch

        model, tokenizer = self._loaded
        out: list[list[str]] = []
        torch.manual_seed(sampling.seed)
        for start in range(0, len(prompts), self.batch):
            texts = [
                tokenizer.apply_chat_template(m, tokenize=False, add_generation_prompt=True)
                for m in prompts[start : start + self.batch]
            ]
            encoded = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(model.device)
            with torch.inference_mode():
                made = model.generate(
                    **encoded,
                    do_sample=True,
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    top_k=0,
                    max_new_tokens=sampling.max_tokens,
                    num_return_sequences=n,
                    pad_token_id=tokenizer.pad_token_id,
                )
            said = tokenizer.batch_decode(made[:, encoded["input_ids"].shape[1] :], skip_special_tokens=True)
            out += [said[i : i + n] for i in range(0, len(said), n)]
        return out


@dataclass(frozen=True)
class ServerSampler:
    """An OpenAI-compatible server, vLLM for one.

    Attributes:
        base_url: up to and including /v1.
        model: the name it serves under.
        key: sent as a bearer token, where there is one.
        timeout: seconds for one request.
        retries: tries after the first, with a pause that doubles from `pause` seconds.
        pause: see `retries`.
        parallel: requests under way together.
    """

    base_url: str
    model: str
    key: str | None = None
    timeout: float = 120.0
    retries: int = 4
    pause: float = 1.0
    parallel: int = 16

    def sample(self, prompts: Sequence[Messages], n: int, sampling: Sampling) -> list[list[str]]:
        """N continuations of each.

        Raises:
            SamplerError: if the server is not there, or refuses.
        """
        from concurrent.futures import ThreadPoolExecutor

        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        with (
            httpx.Client(timeout=self.timeout, headers=headers) as client,
            ThreadPoolExecutor(self.parallel) as pool,
        ):
            return list(pool.map(lambda m: self._one(client, m, n, sampling), prompts))

    def _one(self, client: httpx.Client, messages: Messages, n: int, sampling: Sampling) -> list[str]:
        body = {
            "model": self.model,
            "messages": messages,
            "n": n,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": sampling.seed,
        }
        said = ""
        for attempt in range(self.retries + 1):
            try:
                answer = client.post(f"{self.base_url.rstrip('/')}/chat/completions", json=body)
                if answer.status_code == 200:
                    return [str(c["message"]["content"] or "") for c in answer.json()["choices"]]
                said = f"it answers {answer.status_code}"
                if answer.status_code < 500 and answer.status_code not in {408, 429}:
                    break
            except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
                said = type(error).__name__
            if attempt < self.retries:
                time.sleep(self.pause * 2**attempt)
        raise SamplerError(f"the sampling server gives nothing ({said}); run again to go on from what is on disk")


def prompts() -> dict[str, str]:
    """The prompts, by name: `rewrite_safe`, `rewrite_unsafe`, `rate`."""
    text = (resources.files("wardgate.train.duo") / "prompts.yaml").read_text("utf-8")
    return dict(yaml.safe_load(text))


def rewrite_messages(seed: Seed, language: str) -> Messages:
    """The conversation that asks for a rewrite."""
    said = prompts()["rewrite_unsafe" if seed.unsafe else "rewrite_safe"]
    system = said.replace("{language}", LANGUAGES.get(language, language))
    return [{"role": "system", "content": system}, {"role": "user", "content": seed.text}]


def rate_messages(proposal: Proposal) -> Messages:
    """The conversation that asks for a rating."""
    system = prompts()["rate"].replace("{language}", LANGUAGES.get(proposal.language, proposal.language))
    return [{"role": "system", "content": system}, {"role": "user", "content": proposal.text}]


@dataclass(frozen=True, slots=True)
class ChatRater:
    """The generator before any training, asked for a rating; it stays the same in every round."""

    sampler: Sampler
    sampling: Sampling = Sampling(temperature=0.7, max_tokens=96)

    def rate(self, seeds: Sequence[Seed], proposals: Sequence[Proposal]) -> list[int]:  # noqa: ARG002 - it must not see them
        """Ratings 1 to 5."""
        answers = self.sampler.sample([rate_messages(p) for p in proposals], 1, self.sampling)
        return [rating_of(one[0]) for one in answers]


@dataclass(frozen=True, slots=True)
class Preferences:
    """DPO's numbers, as DuoGuard's code has them.

    Attributes:
        beta: weight of the reference.
        rpo_alpha: weight of the chosen rewrite's own likelihood beside DPO's loss (RPO); TRL spells it as a second
            loss, `sft`.
        rate: peak learning rate; cosine, warm-up 0.1.
        epochs: passes over the pairs.
        batch: pairs per device and pass.
        accumulate: passes per step. Batch x accumulate x GPUs was 64 in the code.
        max_length: tokens of prompt and rewrite.
        lora: rank of adapters; 0 trains all weights, as published.
        seed: drives order and dropout.
    """

    beta: float = 0.01
    rpo_alpha: float = 0.4
    rate: float = 5e-7
    epochs: float = 1.0
    batch: int = 2
    accumulate: int = 32
    max_length: int = 1024
    lora: int = 0
    seed: int = 42


@dataclass(frozen=True, slots=True)
class ChatGenerator:
    """A causal language model as a player.

    Attributes:
        folder: its weights.
        sampler: what samples it; where that is a server, it must serve these very weights.
        preferences: how it learns.
        running: how training is shown.
        sampling: how it is sampled.
    """

    folder: str
    sampler: Sampler
    preferences: Preferences
    running: Running
    sampling: Sampling = Sampling()

    def propose(self, seeds: Sequence[Seed], language: str, k: int, round_: int) -> list[Proposal]:
        """K rewrites of each seed."""
        drawn = replace(self.sampling, seed=self.sampling.seed + 1000 * round_)
        into = [s.language if language == OWN else language for s in seeds]
        asked = [rewrite_messages(s, t) for s, t in zip(seeds, into, strict=True)]
        made = self.sampler.sample(asked, k, drawn)
        return [
            Proposal(f"{round_}/{target}/{seed.id}/{i}", seed.id, text.strip(), target, ("chat",))
            for seed, target, texts in zip(seeds, into, made, strict=True)
            for i, text in enumerate(texts)
        ]

    def improve(self, seeds: Sequence[Seed], pairs: Sequence[Pair], classifier: Classifier, folder: Path) -> None:  # noqa: ARG002 - DPO needs the pairs alone
        """DPO on the pairs; without a pair the weights stay as they are."""
        by_id = {s.id: s for s in seeds}
        rows = [preference_row(by_id[p.seed], p) for p in pairs]
        work = work_folder(folder)
        improve_by_dpo(self.folder, rows, self.preferences, replace(self.running, out=work), folder)

    def open(self, folder: Path) -> ChatGenerator:
        """The generator with new weights.

        Raises:
            SamplerError: if it is sampled on a server that must first be given the new weights.
        """
        if isinstance(self.sampler, ServerSampler):
            name = f"{self.sampler.model}-{folder.name}"
            if name not in served_models(self.sampler):
                raise SamplerError(f"serve {folder} under the name {name!r} beside the first model, and run again")
            return replace(self, folder=str(folder), sampler=replace(self.sampler, model=name))
        return replace(self, folder=str(folder), sampler=LocalSampler(str(folder)))


def served_models(server: ServerSampler) -> set[str]:
    """The names that a server serves.

    Raises:
        SamplerError: if it is not there.
    """
    headers = {"Authorization": f"Bearer {server.key}"} if server.key else {}
    try:
        answer = httpx.get(f"{server.base_url.rstrip('/')}/models", headers=headers, timeout=server.timeout)
        return {str(m["id"]) for m in answer.json()["data"]}
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise SamplerError(f"the sampling server cannot be asked for its models ({type(error).__name__})") from None


def preference_row(seed: Seed, pair: Pair) -> dict[str, Any]:
    """A pair as TRL's conversational preference row."""
    return {
        "prompt": rewrite_messages(seed, pair.language),
        "chosen": [{"role": "assistant", "content": pair.chosen}],
        "rejected": [{"role": "assistant", "content": pair.rejected}],
    }


def improve_by_dpo(
    base: str, rows: Sequence[dict[str, Any]], preferences: Preferences, running: Running, folder: Path
) -> None:
    """Train a generator on preference rows and write its weights and tokenizer into a folder.

    A run that was cut short goes on from its last whole checkpoint in `running.out`.
    """
    from datasets import Dataset
    from transformers import set_seed
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    from wardgate.guards.checkpoint import load_tokenizer
    from wardgate.train.classifier import adapters, first_process, merged
    from wardgate.train.fitting import FixedOrder, Whole, arguments, bf16_here, run
    from wardgate.train.judge import open_chat_model
    from wardgate.train.recipe import Recipe

    class Trainer(FixedOrder, DPOTrainer):
        """TRL's trainer with an order of rows that the seed fixes."""

    set_seed(preferences.seed)
    tokenizer, model = load_tokenizer(base, revision=None, gated=False), open_chat_model(base)
    if rows:
        shared = ("seed", "epochs", "batch", "accumulate", "rate", "max_length", "lora")
        recipe = Recipe(**{name: getattr(preferences, name) for name in shared}, warmup=0.1, schedule="cosine")
        given = arguments(recipe, running, bf16=bf16_here(model.config.model_type, "auto"), evaluate=False)
        trainer = Trainer(
            model=model,
            args=DPOConfig(
                **given,
                beta=preferences.beta,
                loss_type=["sigmoid", "sft"],
                loss_weights=[1.0, preferences.rpo_alpha],
                max_length=preferences.max_length,
            ),
            train_dataset=Dataset.from_list([json.loads(json.dumps(r)) for r in rows]),
            processing_class=tokenizer,
            peft_config=adapters(recipe, "CAUSAL_LM") if preferences.lora else None,
            callbacks=[Whole(), *running.callbacks],
        )
        run(trainer, running.out)
        if not preferences.lora:
            trainer.save_model(str(folder))  # gathers what DeepSpeed has spread over GPUs
            return
        model = merged(trainer.accelerator.unwrap_model(trainer.model))
    if first_process():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
