"""`python -m raytrain.featurize`: what it writes, goes on with and refuses; runs on features."""

import hashlib
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from numpy.typing import NDArray
from tiny_models import NAME, WORDS, save_bert, save_onnx, save_timm

from raytrain import geo
from raytrain.bulk import features as bulk
from raytrain.bulk.features import Pool, encode_views, open_features, write_features
from raytrain.checks.nodes import alive
from raytrain.checks.shards import data_findings
from raytrain.data.cards import load_card
from raytrain.data.features import Features, features_of, problem
from raytrain.data.manifest import FEATURE, Field, Manifest
from raytrain.data.packing import pack
from raytrain.data.shards import COLUMNS, read_shard
from raytrain.data.streams import OBSERVATION, Stream
from raytrain.data.writer import Observations, write_shards
from raytrain.encoders.frozen.timm_images import TimmEncoder
from raytrain.errors import UserError
from raytrain.featurize import main
from raytrain.pretrain import main as pretrain

TEXT_PLACES = 300


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TimmEncoder:
    weights = save_timm(tmp_path_factory.mktemp("weights") / "tiny.safetensors")
    return TimmEncoder(name=NAME, weights=weights, image_px=32, batch=16, licence="MIT")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A card of texts that names a text model, with shards of texts beside it."""
    folder = tmp_path_factory.mktemp("texts")
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(WORDS, rng.integers(1, 12))) for _ in range(TEXT_PLACES)]
    offered = Observations(
        lonlat_deg=geo.random_on_sphere(TEXT_PLACES, rng),
        fields={"text": Field(dtype="str", shape=(), encoding="txt")},
        take=lambda index: {"text": [lines[row] for row in index]},
        layout="samples",
    )
    write_shards(str(folder / "root" / "tales"), offered, modality="tales", shard_rows=128)
    model = save_bert(folder / "model")
    (folder / "tales.yaml").write_text(
        f"field: text\nfeatures: {{kind: sentence, model: {model}}}\ntower: {{kind: projection}}\n"
    )
    return folder


def arrays(url: str) -> dict[str, dict[str, NDArray[Any]]]:
    """The columns of every shard."""
    m = Manifest.load(url)
    return {s.name: read_shard(url, s, m.fields, m.layout, verify=True)[0] for s in m.shards}


@pytest.fixture(scope="module")
def made(
    made_shards: Path,
    tmp_path_factory: pytest.TempPathFactory,
    local_ray: None,
    encoder: TimmEncoder,
) -> Features:
    """Features of tiles, two views each, whose making was interrupted and gone on with."""
    out, heard = tmp_path_factory.mktemp("out"), list[int]()
    features = features_of(
        str(made_shards / "shards" / "tiles"), replace(encoder, views=2), output=str(out)
    )

    def stop(rows: int) -> None:
        heard.append(rows)
        if rows > 700:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bulk, "PACKING", 0)  # each shard is done before the next begins
        with pytest.raises(KeyboardInterrupt):
            write_features(open_features(features), Pool(actors=1), stop)
    assert heard == sorted(heard)
    done = sorted(path.name for path in out.glob("*.tar"))
    assert 2 < len(done) < len(features.manifest.shards)
    assert not (out / "manifest.json").exists()
    (out / done[0]).write_bytes(b"a part")  # is not taken for done
    begun = open_features(features)
    assert {*begun.done} == {*done[1:]}
    times = [(out / name).stat().st_mtime_ns for name in done[1:]]
    heard.clear()
    came = write_features(begun, Pool(actors=1), heard.append)
    assert came.before == 128 * (len(done) - 1)
    assert heard[-1] == sum(shard.samples for shard in came.manifest.shards)
    assert times == [(out / name).stat().st_mtime_ns for name in done[1:]]
    blocks = ray.data.DataContext.get_current().target_max_block_size
    assert blocks is None or blocks > 1e6  # what is set for features is not for streams
    return features


def test_each_shard_has_its_features(made: Features, encoder: TimmEncoder) -> None:
    """Its bytes are those of the encoder alone: so they do not depend on where it was stopped."""
    out, manifest = Path(made.output), Manifest.load(made.output)
    assert {path.name for path in out.iterdir()} == {
        "manifest.json",
        *(shard.name for shard in manifest.shards),
    }
    field, alone, raw = manifest.field(FEATURE), encoder.build(made.spec), arrays(made.url)
    assert [(s.name, s.split, s.samples) for s in manifest.shards] == [
        (s.name, s.split, s.samples) for s in made.manifest.shards
    ]
    for shard in manifest.shards:
        images, places = raw[shard.name]["observation"], raw[shard.name]["lonlat"]
        parts = [
            encode_views(alone, made.encoder, images[rows], shard, rows)  # type: ignore[arg-type]
            for rows in np.array_split(np.arange(len(images)), range(64, len(images), 64))
        ]
        found = np.concatenate(parts)
        np.testing.assert_array_equal(found[:, 0], alone.encode(images))
        assert (found[:, 1] != found[:, 0]).any(axis=1).mean() > 0.9
        content, _ = pack(
            COLUMNS, places, {FEATURE: found}, {FEATURE: replace(field, mean=None, std=None)}
        )
        assert content == (out / shard.name).read_bytes()


def test_the_manifest_says_what_features_are_made_of(made: Features, encoder: TimmEncoder) -> None:
    manifest, found = Manifest.load(made.output), arrays(made.output)
    field = manifest.field(FEATURE)
    train = np.concatenate([c[FEATURE] for n, c in found.items() if n.startswith("train")])
    columns = train.reshape(-1, field.shape[1]).astype(float)
    np.testing.assert_allclose(field.mean, columns.mean(0), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(field.std, columns.std(0), rtol=1e-2, atol=1e-4)
    source = manifest.source
    assert (source["encoder"]["image_px"], source["encoder"]["views"], field.views) == (32, 2, 2)
    assert {*source["versions"]} == {"torch", "timm"}
    digest = hashlib.sha256(Path(encoder.weights).read_bytes()).hexdigest()
    assert source["weights_sha256"] == digest
    raw = hashlib.sha256(Path(made.url, "manifest.json").read_bytes()).hexdigest()
    assert source["shards_sha256"] == raw
    assert source["resolved"]["mean"] == [127.5] * 3
    assert (manifest.licence, manifest.credit) == ("encoder: MIT", "encoder: timm")
    assert open_features(made).manifest == manifest
    other = replace(made, encoder=replace(encoder, views=2, image_px=24))
    with pytest.raises(UserError, match=r"holds features by other settings \(encoder.image_px: "):
        open_features(other)


def test_a_stream_takes_one_view_at_each_visit(made: Features) -> None:
    """And validation the first."""
    url = made.output
    manifest, found = Manifest.load(url), arrays(url)
    stream = Stream(modality="tiles", url=url, manifest=manifest, observation=FEATURE)
    seen: dict[tuple[float, ...], set[int]] = {}
    visits = itertools.islice(stream.visits(0, 1), 8 * len(manifest.shards_of("train")))
    for visit in visits:
        columns, whole = stream.read(visit), found[visit.shard.name]
        views = dict(zip(map(tuple, whole["lonlat"].tolist()), whole[FEATURE], strict=True))
        for place, x in zip(columns["lonlat"].tolist(), columns[OBSERVATION], strict=True):
            same = (views[tuple(place)] == x).all(axis=1)
            assert same.any()
            seen.setdefault(tuple(place), set()).add(int(same.argmax()))
    assert sum(len(chosen) == 2 for chosen in seen.values()) > 0.9 * len(seen)
    first = found[manifest.shards_of("val")[0].name][FEATURE][:20, 0]
    np.testing.assert_array_equal(stream.validation(20)[OBSERVATION], first)


def test_a_run_makes_the_features_that_it_lacks(
    texts: Path,
    tiny_world: Any,
    local_ray: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = tiny_world.arguments("a", modalities="")
    arguments += [f"data.root={texts}/root", f"data.modalities={texts}/tales.yaml"]
    arguments += ["method.kind=pair", "method.modality=tales", "evaluate.tasks=[]"]
    assert pretrain([*arguments, "training.steps=2"]) == 0
    shown = capsys.readouterr().out
    assert "making features of tales by sentence, once: " in shown
    assert f"{TEXT_PLACES} features [16] float16" in shown
    manifest = Manifest.load(str(texts / "root" / "tales-features"))
    assert manifest.samples("train") + manifest.samples("val") == TEXT_PLACES
    assert problem(load_card(str(texts / "tales.yaml")), str(texts / "root")) is None
    assert main([str(texts / "tales.yaml"), "--root", str(texts / "root")]) == 0
    assert f"{TEXT_PLACES} of them there before" in capsys.readouterr().out
    doctor_sees(texts)


def doctor_sees(texts: Path) -> None:
    """Features that are there, that a run makes, and that are of other shards."""
    cards = {"tales": load_card(str(texts / "tales.yaml"))}
    folder, root = texts / "root" / "tales-features", str(texts / "root")
    (there, _) = data_findings(cards, root, alive())
    assert (there.state, there.words[:18]) == ("green", "tales: 300 places,")
    content = (folder / "manifest.json").read_text()
    (folder / "manifest.json").unlink()
    (made,) = data_findings(cards, root, alive())
    assert (made.state, made.words) == ("green", "tales: the run makes its features, on first use")
    (folder / "manifest.json").write_text(
        content.replace('"shards_sha256": "', '"shards_sha256": "0')
    )
    (stale,) = data_findings(cards, root, alive())
    assert stale.state == "red"
    assert "holds other features (shards_sha256: 0" in stale.words
    assert "raytrain.featurize" in stale.remedy
    (folder / "manifest.json").write_text(content)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 2
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("error: ")
    return said


def test_bad_input_is_one_line(
    texts: Path,
    made_shards: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tiles, weather = (str(made_shards / "shards" / name) for name in ("tiles", "weather"))
    assert "minilm reads texts, and these are images" in refusal(
        capsys, tiles, "--encoder", "minilm"
    )
    assert "did you mean `minilm`?" in refusal(capsys, tiles, "--encoder", "minilmm")
    assert "vectors [6], which a tower reads as they are" in refusal(capsys, weather)
    assert "there is no channel 7" in refusal(capsys, tiles, "channels=0,7")
    assert "did you mean `channels`?" in refusal(capsys, tiles, "chanels=0")
    missing = refusal(capsys, tiles, "--encoder", "timm", f"name={NAME}", "weights=no.pth")
    assert "there is no no.pth" in missing
    assert f"no shards in {tmp_path}/none" in refusal(capsys, f"{tmp_path}/none")
    assert "no card `tale`" in refusal(capsys, "tale")
    hub = refusal(capsys, f"{texts}/root/tales", "--encoder", "sentence", "model=org/name")
    assert "write hub://org/name" in hub
    onnx = save_onnx(tmp_path / "flat.onnx", ["n", 6])
    over = refusal(capsys, weather, "--encoder", "onnx", f"file={onnx}", "--output", tiles)
    assert "holds shards that are no features; name another --output" in over
    assert "have no field `pixels`; they hold observation" in refusal(
        capsys, tiles, "--field", "pixels"
    )


def test_features_of_shards_that_have_changed(texts: Path, tmp_path: Path) -> None:
    """A run does not take them; it does where the shards are not there at all."""
    root = tmp_path / "root"
    (root / "tales").mkdir(parents=True)
    (root / "tales-features").mkdir()
    card = load_card(str(texts / "tales.yaml"))
    assert "there are no features in" in str(problem(card, str(root)))
    raw = json.loads((texts / "root" / "tales" / "manifest.json").read_text())
    (root / "tales" / "manifest.json").write_text(json.dumps(raw))
    features = features_of(card.url(str(root)), card.features)  # type: ignore[arg-type]
    manifest = Manifest(
        modality="tales", layout="columns", fields={}, shards=(), source=features.described
    )
    (root / "tales-features" / "manifest.json").write_text(manifest.to_json())
    assert problem(card, str(root)) is None
    (root / "tales" / "manifest.json").write_text(json.dumps({**raw, "licence": "other"}))
    assert "holds other features (shards_sha256: " in str(problem(card, str(root)))
    (root / "tales" / "manifest.json").unlink()
    assert problem(card, str(root)) is None
