"""Tiny networks with random weights, in the files that published ones come in."""

from pathlib import Path
from typing import Any

import onnx
import safetensors.torch
import timm
import torch
from onnx import TensorProto, helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

NAME = "test_resnet"
WORDS = ["a", "river", "in", "the", "dry", "north", "of", "an", "old", "country", "with", "hills"]


def save_timm(path: Path) -> str:
    """The weights of an image classifier."""
    torch.manual_seed(0)
    safetensors.torch.save_file(timm.create_model(NAME).state_dict(), path)
    return str(path)


def save_bert(folder: Path) -> Path:
    """A text model, with a tokenizer of a few words."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    words = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", model_max_length=64
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(names),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def save_onnx(path: Path, shape: list[Any], *extra: str) -> str:
    """A model that averages all axes but the first two, or hands vectors on."""
    given = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("given", *extra)]
    outputs = [helper.make_tensor_value_info("flat", TensorProto.FLOAT, ["n", None])]
    nodes = [helper.make_node("Flatten", ["given"], ["flat"])]
    if len(shape) == 4:
        nodes = [
            helper.make_node("GlobalAveragePool", ["given"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
        ]
        outputs += [helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["n", None, 1, 1])]
    graph = helper.make_graph(nodes, "tiny", given, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return str(path)
