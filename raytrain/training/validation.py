"""Validation on places whose spatial blocks pretraining never saw."""

from typing import Any

import torch

from raytrain.batch import Pairs
from raytrain.data.streams import LONLAT, OBSERVATION
from raytrain.evaluation.retrieval import retrieval
from raytrain.objective.losses import info_nce
from raytrain.objective.model import Model, Outputs
from raytrain.training.job import Job

CHUNK = 512


class Validation:
    """Loss and retrieval of every modality on the same held-out places; call it with the model."""

    def __init__(self, job: Job, device: torch.device) -> None:
        self.job, self.device = job, device
        self.places: dict[str, Pairs] = {}

    @torch.no_grad()
    def __call__(self, model: Model) -> dict[str, Any]:
        """By modality: val_loss (mean of both directions of InfoNCE among the held-out places,
        chance is ln n), retrieval @1 and @10 both ways; val_regression where there are heads."""
        model.eval()
        record: dict[str, Any] = {}
        for name in self.job.streams:
            outputs = [self._embed(model, name, start) for start in self._starts(name)]
            parts = [output.pairs[name] for output in outputs]
            if parts[0].prediction.shape[1]:
                errors = torch.cat([((p.prediction - p.target) ** 2).mean(1) for p in parts])
                record[f"val_regression/{name}"] = errors.mean().item()
            location = torch.cat([p.location for p in parts])
            observation = torch.cat([p.observation for p in parts])
            if observation.shape[1]:
                (scale,) = outputs[0].logit_scale
                there = info_nce(observation, location, 0, scale)
                back = info_nce(location, observation, 0, scale)
                record[f"val_loss/{name}"] = ((there + back) / 2).item()
                found = retrieval(location.cpu().numpy(), observation.cpu().numpy())
                record[f"val_places/{name}"] = found.candidates
                for k in found.chance:
                    to_place, to_seen = found.observation_to_location, found.location_to_observation
                    record[f"val_observation_to_location@{k}/{name}"] = to_place[k]
                    record[f"val_location_to_observation@{k}/{name}"] = to_seen[k]
        model.train()
        return record

    def _starts(self, name: str) -> range:
        if name not in self.places:
            stream, wanted = self.job.streams[name], self.job.config.training.validation_places
            columns = stream.validation(wanted)
            self.places[name] = Pairs(
                *map(torch.from_numpy, (columns[LONLAT], columns[OBSERVATION]))
            )
        return range(0, len(self.places[name].lonlat_deg), CHUNK)

    def _embed(self, model: Model, name: str, start: int) -> Outputs:
        pairs = self.places[name]
        chunk = [t[start : start + CHUNK].to(self.device) for t in pairs]
        outputs: Outputs = model({name: Pairs(*chunk)})
        return outputs
