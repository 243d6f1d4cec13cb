# ruff: noqa: S106 - tokens of a tokenizer, no passwords
"""Small checkpoints in the published formats: real architectures, random weights, tokenizers trained here."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers  # noqa: E402
from transformers import (  # noqa: E402
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    DebertaV2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from far_guard import open_guard  # noqa: E402, F401 - a fixture

CORPUS = [
    'The quick brown fox jumps over the lazy dog. {"flag": true, "category": "harassment", "reason": "short"}',
    'How do I kill a python process? {"flag": false, "category": "benign"} safe unsafe Yes No yes no',
    "toxicity harassment hate_speech sexual_content violence benign Message to judge system user assistant",
    "Wie geht es dir heute? ¿Cómo estás? Ça va très bien, merci beaucoup. Привет, как дела?",
] * 4
TEXTS = [
    "How to kill a python process?",
    "hi",
    "The quick brown fox jumps over the lazy dog. " * 6,
    "¿Cómo estás? Привет!",
    "line one\nline two\n\n  indented",
    'quotes " and {"flag": true} inside',
    "The end <|endoftext|>",
    "a b c d e f g h i j k l m n o p",
]
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_level(specials, vocab_size=700):
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=specials, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    raw.train_from_iterator(CORPUS, trainer)
    return raw


def qwen_tokenizer():
    raw = byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    out = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )
    out.chat_template = CHAT
    return out


def llama_tokenizer():
    raw = byte_level(["<|begin_of_text|>", "<|end_of_text|>"])
    raw.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A",
        pair="<|begin_of_text|> $A <|begin_of_text|> $B",
        special_tokens=[("<|begin_of_text|>", 0)],
    )
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>")


def bert_tokenizer(**kwargs):
    raw = byte_level(["[PAD]", "[CLS]", "[SEP]", "[UNK]"])
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
        **kwargs,
    )


def save(config, tokenizer, folder, *, seed=0, auto=AutoModelForSequenceClassification):
    """Random weights, larger than at the start of training so that probabilities differ from text to text."""
    torch.manual_seed(seed)
    model = auto.from_config(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and "embed" not in name:
                weight.mul_(4)
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


DECODER = {
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.05,
    "max_position_embeddings": 2048,
}


@pytest.fixture(scope="session")
def texts():
    return list(TEXTS)


@pytest.fixture(scope="session")
def qwen_tok():
    return qwen_tokenizer()


@pytest.fixture(scope="session")
def duoguard_folder(tmp_path_factory, qwen_tok):
    config = Qwen2Config(
        vocab_size=len(qwen_tok), num_labels=12, pad_token_id=qwen_tok.eos_token_id, tie_word_embeddings=True, **DECODER
    )
    return save(config, qwen_tok, tmp_path_factory.mktemp("duoguard"))


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory):
    tok = llama_tokenizer()
    config = LlamaConfig(vocab_size=len(tok), num_labels=12, pad_token_id=tok.eos_token_id, **DECODER)
    return save(config, tok, tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def deberta_folder(tmp_path_factory):
    tok = bert_tokenizer()
    config = DebertaV2Config(
        vocab_size=len(tok),
        hidden_size=64,
        intermediate_size=112,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_labels=2,
        relative_attention=True,
        position_buckets=32,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        type_vocab_size=0,
        pad_token_id=tok.pad_token_id,
        max_position_embeddings=512,
    )
    return save(config, tok, tmp_path_factory.mktemp("deberta"))


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory):
    tok = bert_tokenizer(model_input_names=["input_ids", "token_type_ids", "attention_mask"])
    config = BertConfig(
        vocab_size=len(tok),
        hidden_size=64,
        intermediate_size=112,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_labels=6,
        problem_type="multi_label_classification",
        max_position_embeddings=128,
        pad_token_id=tok.pad_token_id,
    )
    return save(config, tok, tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def judge_folder(tmp_path_factory, qwen_tok):
    config = Qwen2Config(
        vocab_size=len(qwen_tok),
        pad_token_id=qwen_tok.eos_token_id,
        eos_token_id=qwen_tok.eos_token_id,
        tie_word_embeddings=True,
        **DECODER,
    )
    return save(config, qwen_tok, tmp_path_factory.mktemp("judge"), auto=AutoModelForCausalLM)
