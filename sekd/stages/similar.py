"""Rank the nodes that are most similar to a name or an image, for ``distractors: similar``."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sekd.config import ModelSpec, SimilarSpec
from sekd.data.questions import shown_text
from sekd.data.samples import Dataset
from sekd.data.similar import SimilarNodes, num_ranked, rank_most_similar
from sekd.data.taxonomy import Node, Taxonomy
from sekd.io.faults import optional
from sekd.io.hashing import digest
from sekd.io.locations import cache_directory
from sekd.models import loading
from sekd.models.embedding import Embedder
from sekd.pipeline.progress import show_progress
from sekd.stages.fingerprints import hash_images
from sekd.stages.prepare import PreparedSample, prepare_samples

logger = logging.getLogger(__name__)

_ROWS_AT_ONCE = 256
_IMAGES_AT_ONCE = 32


def with_similar(dataset: Dataset) -> Dataset:
    """Return the dataset with its ranks, computed or cached; any other dataset as it is.

    The cache is in ``~/.cache/sekd/similar``. The name of a file is the hash of everything that its
    ranks depend on: the model, the taxonomy and, where images are compared, the images.

    Raises:
        ConfigError: if the model cannot be loaded, or is to embed images and does not take any.
    """
    spec = dataset.spec.similar
    if dataset.spec.distractors != "similar" or spec is None:
        return dataset
    fields = {
        "model": loading.model_identity(ModelSpec(path=spec.model)),
        "by": spec.by,
        "num_ranked": num_ranked(dataset.spec.num_options),
        "taxonomy": dataset.taxonomy.digest(),
    }
    if spec.by == "image":
        samples = dataset.samples
        columns = [samples.ids.to_pylist(), samples.leaves.to_pylist(), list(hash_images(dataset))]
        fields["samples"] = digest(columns)
    path = cache_directory() / "similar" / f"{digest(fields)[:32]}.parquet"
    similar = SimilarNodes.read(path, spec)
    if similar is None:
        embedder = Embedder(spec.model)
        rank = _rank_for_names if spec.by == "name" else _rank_for_images
        similar = rank(dataset, spec, embedder)
        embedder.close()
        with optional(f"the cache {path}"):
            similar.write(path)
        logger.info("%s: ranked similar names with %s: %s", dataset.name, spec.model, path)
    return replace(dataset, similar=similar)


def _rank_for_names(dataset: Dataset, spec: SimilarSpec, embedder: Embedder) -> SimilarNodes:
    """Rank, for each node, its peers by the similarity of their names."""
    num_nodes = num_ranked(dataset.spec.num_options)
    keys: list[str] = []
    places = []
    for peers, vectors in _embed_levels(dataset.taxonomy, embedder):
        for start in range(0, len(peers), _ROWS_AT_ONCE):
            similarity = vectors[start : start + _ROWS_AT_ONCE] @ vectors.T
            rows = np.arange(len(similarity))
            similarity[rows, start + rows] = -np.inf  # not itself
            ranked = rank_most_similar(similarity, num_nodes)
            ranked[ranked == (start + rows)[:, None]] = -1  # where there are no others
            places.append(ranked)
        keys += [node.id for node in peers]
    return SimilarNodes(spec, pa.array(keys, pa.string()), np.concatenate(places))


def _rank_for_images(dataset: Dataset, spec: SimilarSpec, embedder: Embedder) -> SimilarNodes:
    """Rank, for each labelled sample and level, the nodes by their similarity to the image."""
    num_nodes = num_ranked(dataset.spec.num_options)
    levels = {
        peers[0].rank: vectors for peers, vectors in _embed_levels(dataset.taxonomy, embedder)
    }
    keys: list[str] = []
    places = [np.empty((0, num_nodes), np.int32)]
    labelled = (sample for sample in dataset.samples if sample.leaf is not None)
    # Without questions, which would need the ranks.
    unasked = dataset.without_quiz()
    with show_progress(f"embedding the images of {dataset.name}", len(dataset.samples)) as progress:
        prepared = prepare_samples(unasked, labelled)
        while batch := list(islice(prepared, _IMAGES_AT_ONCE)):
            read = [(each.sample, each.image) for each in batch if isinstance(each, PreparedSample)]
            images = [image for _, image in read if image is not None]
            vectors = embedder.embed_images(images) if images else ()
            for (sample, _), vector in zip(read, vectors, strict=True):
                assert sample.leaf is not None
                for node in dataset.taxonomy.path(sample.leaf):
                    similarity = (levels[node.rank] @ vector)[None]
                    places.append(rank_most_similar(similarity, num_nodes))
                    keys.append(SimilarNodes.key_of(spec, node, sample.id))
            progress.advance(len(batch))
    return SimilarNodes(spec, pa.array(keys, pa.string()), np.concatenate(places))


def _embed_levels(
    taxonomy: Taxonomy, embedder: Embedder
) -> Iterator[tuple[list[Node], npt.NDArray[np.float32]]]:
    """Yield the peers of each rank, and the vectors of their names."""
    for node in {node.rank: node for node in taxonomy.nodes if node.depth}.values():
        peers = taxonomy.peers(node)
        yield peers, embedder.embed_texts([shown_text(peer.name) for peer in peers])
