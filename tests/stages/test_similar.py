"""Similar options: ranked by a model's embeddings, cached, and part of the fingerprint."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from embedders import save_embedder
from PIL import Image
from transformers import AutoModel, AutoTokenizer

from sekd import api
from sekd.config import DatasetSpec, SimilarSpec
from sekd.data.images import read_image
from sekd.data.questions import option_key
from sekd.data.samples import Dataset, questions_of
from sekd.data.similar import rank_most_similar
from sekd.errors import ConfigError, SampleError
from sekd.io.locations import cache_directory
from sekd.models import embedding
from sekd.models.embedding import Embedder
from sekd.pipeline.inputs import SampleInputs
from sekd.stages.fingerprints import dataset_settings
from sekd.stages.similar import with_similar

WORDS = [f"w{number}" for number in range(12)]
LEAVES = [*WORDS, "W0", "w1 w2"]

Load = Callable[..., Dataset]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load a dataset of two noisy images for each of some leaves, with similar options."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    paths = {f"{leaf}": ["root", "ab"[index % 2], leaf] for index, leaf in enumerate(WORDS)}
    paths["other w0"] = ["root", "b", "W0"]  # reads like w0
    Path("t.json").write_text(json.dumps(paths))
    rng = np.random.default_rng(0)
    for leaf in WORDS[:3]:
        for number in range(2):
            path = Path("images") / leaf / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(path)

    def load(kind: str, by: str = "name", num_options: int = 4) -> Dataset:
        model = save_embedder(tmp_path / kind, kind, [*WORDS, "W0", "a", "b"])
        spec = DatasetSpec(
            taxonomy=Path("t.json"),
            images=Path("images"),
            distractors="similar",
            similar=SimilarSpec.model_validate({"model": model, "by": by}),
            num_options=num_options,
        )
        return Dataset.load("d", spec)

    return load


@pytest.mark.parametrize("kind", ["clip", "siglip", "bert"])
def test_wrong_options_have_the_most_similar_names(load: Load, kind: str) -> None:
    dataset = with_similar(load(kind))
    assert dataset.similar is not None
    assert dataset.spec.similar is not None
    embedder = Embedder(dataset.spec.similar.model)
    for sample in dataset.samples:
        questions = questions_of(dataset, sample)
        assert questions is not None
        assert [len(question.options) for question in questions] == [2, 4]
        truth = questions[-1].truth
        assert truth is not None
        peers = dataset.taxonomy.peers(truth)
        vectors = embedder.embed_texts([peer.name for peer in peers])
        order = np.argsort(-(vectors @ vectors[peers.index(truth)]), kind="stable")
        expected: list[str] = []
        for place in order:
            key = option_key(peers[place].name)
            if key != option_key(truth.name) and key not in expected:
                expected.append(key)
        wrong = {option_key(node.name) for node in questions[-1].options if node != truth}
        assert wrong == set(expected[:3])
    embedder.close()


def test_wrong_options_are_those_most_similar_to_the_image(load: Load) -> None:
    dataset = with_similar(load("siglip", by="image"))
    assert dataset.spec.similar is not None
    embedder = Embedder(dataset.spec.similar.model)
    wrongs = set()
    for sample in dataset.samples:
        questions = questions_of(dataset, sample)
        assert questions is not None
        truth = questions[-1].truth
        assert truth is not None
        peers = dataset.taxonomy.peers(truth)
        names = embedder.embed_texts([peer.name for peer in peers])
        similarity = names @ embedder.embed_images([read_image(sample.image)])[0]
        ranked = [peers[place] for place in np.argsort(-similarity, kind="stable")]
        keys = list(dict.fromkeys(option_key(node.name) for node in ranked))
        keys.remove(option_key(truth.name))
        shown = {option_key(node.name) for node in questions[-1].options} - {option_key(truth.name)}
        assert shown == set(keys[:3])
        wrongs.add(frozenset(shown))
    embedder.close()


def test_ranks_are_computed_once_and_again_for_another_model_or_image(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = with_similar(load("clip", by="image"))
    assert first.similar is not None
    (cached,) = cache_directory().glob("similar/*.parquet")
    with monkeypatch.context() as patch:
        patch.setattr(embedding, "AutoModel", None)
        again = with_similar(load("clip", by="image"))
    assert again.similar is not None
    assert again.similar.digest() == first.similar.digest()
    assert first.spec.similar is not None
    model = AutoModel.from_pretrained(first.spec.similar.model)
    model.logit_scale.data += 1
    with torch.no_grad():
        model.text_projection.weight.copy_(torch.randn_like(model.text_projection.weight))
    model.save_pretrained(first.spec.similar.model)
    other = with_similar(Dataset.load("d", first.spec))
    assert other.similar is not None
    assert other.similar.digest() != first.similar.digest()
    images = [None] * len(first.samples)
    keys = [
        [shard.key for shard in SampleInputs.of(each, images, 2).select([]).new]
        for each in (first, other)
    ]
    assert keys[0] != keys[1]
    cached.write_bytes(b"damaged")
    assert len(list(cache_directory().glob("similar/*.parquet"))) == 2


def test_the_content_of_the_model_counts(load: Load, tmp_path: Path) -> None:
    spec = load("bert").spec
    before = dataset_settings(spec)
    assert set(before["similar"]) == {"model", "by"}
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "bert")
    tokenizer.add_tokens(["new"])
    tokenizer.save_pretrained(tmp_path / "bert")
    assert dataset_settings(spec) != before


def test_a_damaged_cache_is_computed_again(load: Load) -> None:
    first = with_similar(load("bert"))
    (cached,) = cache_directory().glob("similar/*.parquet")
    for content in (b"", b"PAR1", cached.read_bytes()[:200]):
        cached.write_bytes(content)
        again = with_similar(load("bert"))
        assert again.similar is not None
        assert first.similar is not None
        assert again.similar.digest() == first.similar.digest()


def test_an_image_that_cannot_be_read_has_no_questions(load: Load) -> None:
    dataset = load("clip", by="image")
    Path("images/w0/0.png").write_text("<html>")
    ranked = with_similar(dataset)
    broken, whole = ranked.samples[0], ranked.samples[1]
    assert questions_of(ranked, whole)
    with pytest.raises(SampleError, match="no node was ranked as similar"):
        questions_of(ranked, broken)


def test_a_text_encoder_takes_no_images_and_a_missing_model_is_named(load: Load) -> None:
    with pytest.raises(ConfigError, match=r"takes no images; set similar\.by: name"):
        with_similar(load("bert", by="image"))
    dataset = load("bert")
    assert dataset.spec.similar is not None
    gone = dataset.spec.similar.model_copy(update={"model": "no/model"})
    spec = dataset.spec.model_copy(update={"similar": gone})
    with pytest.raises(ConfigError, match="no directory and not in the Hugging Face cache"):
        with_similar(replace(dataset, spec=spec))


def test_other_datasets_stay_as_they_are(load: Load) -> None:
    dataset = load("bert")
    spec = dataset.spec.model_copy(update={"distractors": "random"})
    other = replace(dataset, spec=spec)
    assert with_similar(other) is other
    with pytest.raises(ValueError, match="distractors: similar needs a model"):
        DatasetSpec(taxonomy=Path("t.json"), images=Path("images"), distractors="similar")


def test_the_audit_ranks_too(load: Load) -> None:
    model = load("bert").spec.similar
    assert model is not None
    Path("my.yaml").write_text(
        "run_dir: run\nmodel: {path: none}\ndata:\n  d: {taxonomy: t.json, images: images, "
        f"distractors: similar, similar: {{model: '{model.model}'}}}}\n"
    )
    (questions,) = api.audit_data("my.yaml").questions
    assert (questions.num_unusable, questions.num_classes) == (0, 3)
    assert questions.blind_hca is not None


def test_the_highest_values_come_first_and_rows_are_filled_up() -> None:
    similarity = np.array([[0.1, 0.3, 0.3], [3.0, 1.0, 2.0]], np.float32)
    assert rank_most_similar(similarity, 2).tolist() == [[1, 2], [0, 2]]
    assert rank_most_similar(similarity, 4).tolist() == [[1, 2, 0, -1], [0, 2, 1, -1]]
