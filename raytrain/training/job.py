"""A job: a run's settings with what its cards and manifests say, checked before it starts."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from raytrain import storage
from raytrain.data.cards import NOT_PORTABLE, Card, load_cards
from raytrain.data.manifest import Manifest
from raytrain.data.shards import check_shards
from raytrain.data.streams import Stream
from raytrain.data.visits import Position, rows_taken
from raytrain.encoders.modality import FieldSpec
from raytrain.errors import UserError
from raytrain.objective.methods import Step
from raytrain.objective.model import Model
from raytrain.settings import Tree, to_dict
from raytrain.training.config import RunConfig


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every worker is told. Picklable."""

    config: RunConfig
    run_url: str  # absolute: workers run in folders of their own
    cards: dict[str, Card]
    streams: dict[str, Stream]
    workers: int  # the most, where scaling.min_workers allows fewer

    @property
    def resolved(self) -> Tree:
        """All settings and cards, as they are saved with checkpoints and logged."""
        return {**to_dict(self.config), "cards": {n: _portable(c) for n, c in self.cards.items()}}

    def batch(self, modality: str) -> int:
        """Pairs of a modality, over all workers, in a step that it is active in."""
        training = self.config.training
        if modality in training.places:
            return training.places[modality]
        if training.batch_per_worker is not None:
            return training.batch_per_worker * self.workers
        if training.pairs is None:
            return training.batch
        shared, rest = divmod(training.pairs, self.config.method.together(len(self.streams)))
        if rest:
            raise UserError(
                f"{training.pairs} pairs a step cannot be shared evenly by the modalities of a "
                "step; change training.pairs"
            )
        return shared

    def rows(self, modality: str, workers: int | None = None) -> int:
        """Of these, those of one worker. Fewer `workers` than the most take more each; what cannot
        be shared evenly by them, less than a pair a worker, they leave for the next step."""
        return self.batch(modality) // (workers or self.workers)

    def schedule(self) -> Iterator[Step]:
        """The steps of the run, from the first; the same for any number of workers."""
        samples = {name: stream.samples for name, stream in self.streams.items()}
        batches = {name: self.batch(name) for name in self.streams}
        endless = self.config.method.schedule(samples, batches)
        epochs = self.config.training.epochs
        if epochs is None:
            return itertools.islice(endless, self.config.training.steps)
        return itertools.takewhile(lambda step: step.epoch < epochs, endless)

    def total_steps(self) -> int:
        """Steps of the whole run."""
        return sum(1 for _ in self.schedule())

    def streams_from(self, start: Mapping[str, Position]) -> dict[str, Stream]:
        """The streams at the positions of a checkpoint, each as long as the run still needs."""
        steps = dict.fromkeys(self.streams, 0)
        for step in self.schedule():
            for name in step.modalities:
                steps[name] += 1
        return {
            name: replace(
                stream,
                position=start.get(name, ()),
                rows_wanted=steps[name] * self.batch(name) - rows_taken(start.get(name, ())),
            )
            for name, stream in self.streams.items()
        }

    def build_model(self) -> Model:
        """The model with its initial weights, the same on every worker (drawn from the seed)."""
        torch.manual_seed(self.config.seed)
        location = self.config.location.build()
        towers = {}
        for name, stream in self.streams.items():
            field = stream.manifest.field(stream.observation)
            shape = stream.augment.shape(field.view_shape)
            spec = FieldSpec(shape=shape, mean=field.mean, std=field.std)
            try:
                towers[name] = self.cards[name].tower.build(spec, location.learned_dim)
            except UserError as error:
                raise UserError(f"{name}: {error}") from None
        return Model(location, towers, self.config.objective)


def make_job(config: RunConfig, urls: dict[str, str], cards: dict[str, Card], workers: int) -> Job:
    """Read the manifests of the shards at `urls` and check that the run can start.

    Raises UserErrors, each with the way out.
    """
    streams = {name: _stream(config, card, urls[name]) for name, card in cards.items()}
    url = storage.absolute(f"{config.storage.rstrip('/')}/{config.name}")
    job = Job(config=config, run_url=url, cards=cards, streams=streams, workers=workers)
    for name, stream in streams.items():
        batch = job.batch(name)
        if batch % workers:
            raise UserError(
                f"a batch of {batch} {name} pairs cannot be shared evenly by {workers} workers; "
                "change training.batch, training.pairs, training.places or scaling.workers"
            )
        if stream.samples < batch:
            raise UserError(
                f"{name} has {stream.samples:,} training places in {stream.url}, fewer than a "
                f"global batch of {batch:,}; prepare more places or lower training.batch "
                f"(or training.places.{name})"
            )
    return job


def chosen_cards(config: RunConfig) -> dict[str, Card]:
    """The cards of the modalities that the run trains on, by name."""
    cards = load_cards(config.data.modalities)
    if not cards:
        raise UserError("data.modalities is empty; name at least one card")
    for setting, names in (
        ("training.places", config.training.places),
        ("data.balance_of", config.data.balance_of),
        ("objective.weights", config.objective.weights),
        ("objective.logit_scale.init_of", config.objective.logit_scale.init_of),
    ):
        if unknown := {*names} - {*cards}:
            raise UserError(
                f"{setting}: {', '.join(sorted(unknown))} is not among data.modalities "
                f"({', '.join(cards)})"
            )
    return {name: cards[name] for name in config.method.modalities(tuple(cards))}


def _stream(config: RunConfig, card: Card, url: str) -> Stream:
    manifest = Manifest.load(url)
    check_shards(url, manifest)
    field = manifest.field(card.observed_field)
    if not manifest.samples("train"):
        raise UserError(f"{card.name} is empty: {url} holds no training places; prepare it again")
    if field.encoding == "txt":
        raise UserError(
            f"{card.name}: the field `{card.field}` in {url} is text, which no tower reads; "
            "write `features: minilm` in the card"
        )
    return Stream(
        modality=card.name,
        url=url,
        manifest=manifest,
        observation=card.observed_field,
        augment=card.observed_augment,
        balance=config.data.balance_of.get(card.name, config.data.balance),
        seed=config.seed,
        verify=config.data.verify,
    )


def _portable(card: Card) -> Tree:
    return {key: value for key, value in to_dict(card).items() if key not in NOT_PORTABLE}
