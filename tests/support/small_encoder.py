"""A base encoder of 60 pieces and three layers, with random weights, in the built-in guard's own format."""

from __future__ import annotations

import random

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel

from wardgate.train.encoder_model import LayerHead
from wardgate.train.mini import Settings, Split
from wardgate.train.vocabulary import save_compact

_WORDS = "bread cheese milk cake please give me some nice awful bad hurt you the a to is it now then go stop tea"
WORDS = _WORDS.split()


def unigram():
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [("\u2581" + w, -3.0 - i / 10) for i, w in enumerate(WORDS)]
    pieces += [(c, -9.0) for c in "\u2581abcdefghijklmnopqrstuvwxyz"]
    made = Tokenizer(models.Unigram(pieces, unk_id=3))
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    special = [("<s>", 0), ("</s>", 2)]
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=special)
    made.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    return made


def small_base(folder):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=60,
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=192,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    unigram().save(str(folder / "tokenizer.json"))
    return folder


def random_head(layers, seed=0, width=64):
    """A head of random weights that expects something else than zero mean and unit spread."""
    torch.manual_seed(seed)
    head = LayerHead(layers, width, 8, 13).eval()
    head.centre.normal_()
    head.spread.uniform_(0.5, 2)
    return head


def toy_split(n=240):
    rng = random.Random(5)
    texts, values = [], []
    for _ in range(n):
        bad = rng.random() < 0.5
        texts.append(" ".join([*rng.choices(WORDS[:9], k=3), "hurt you" if bad else "milk please"]))
        values.append([float(bad)] * 13)
    return Split(texts, np.array(values, np.float32), np.ones((n, 13), np.float32), ["toy"] * n)


SETTINGS = Settings(epochs=2, batch_tokens=256, max_tokens=32, rate=1e-3, frozen=0, layers=3)


def compact(folder):
    save_compact(unigram(), folder / "tokenizer.json")
    return Tokenizer.from_file(str(folder / "tokenizer.json"))
