"""The frozen teacher of an elicitation: its chat and its engine, which answer shard after shard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from sekd.config import RunConfig
from sekd.data.samples import Dataset
from sekd.data.shards import Quarantined, Shard
from sekd.engines import Conversation, Engine, open_engine_of
from sekd.models.adapters import adapted_spec
from sekd.models.chat import load_chat
from sekd.stages.prepare import (
    PreparedSample,
    check_num_quarantined,
    prepare_samples,
    run_conversations,
)


class _OfSample(Protocol):
    @property
    def sample_id(self) -> str: ...


Row = TypeVar("Row", bound=_OfSample)


class Taught(NamedTuple, Generic[Row]):
    """The rows of a shard in the order of its samples, and the samples that have none."""

    rows: Sequence[Row]
    quarantined: Sequence[Quarantined]


class Teacher:
    """A model with its chat, loaded once for the shards of a dataset.

    Args:
        engine: answers in place of the engine that the config names.
        plain_prompts: of ``elicit.plain``, where they are asked, too.

    Raises:
        ConfigError: if the model cannot be used, or a name of the taxonomy or a prompt holds a
            special token.
    """

    def __init__(
        self,
        config: RunConfig,
        dataset: Dataset,
        engine: Engine | None,
        plain_prompts: Sequence[str] = (),
    ) -> None:
        spec = config.elicit
        model = adapted_spec(config.model, spec.adapter)
        self._dataset, self._max_quarantined = dataset, spec.max_quarantined
        self.chat = load_chat(
            model,
            subject=dataset.spec.subject,
            wording=dataset.spec.wording,
            answer=spec.answer,
        )
        self.chat.refuse_special_names(dataset.taxonomy)
        for prompt in plain_prompts:
            self.chat.refuse_special_tokens(prompt, "elicit.plain.prompts:")
        self._engine = engine or open_engine_of(spec, model, self.chat, adapter=spec.adapter)

    def converse(
        self,
        shard: Shard,
        conversation: Callable[[PreparedSample], Conversation[Row]],
        advance: Callable[[int], None],
    ) -> Taught[Row]:
        """Hold a conversation about each sample of a shard.

        Raises:
            ShardError: if more samples are quarantined than ``elicit.max_quarantined`` allows.
        """
        quarantined: list[Quarantined] = []
        done: dict[str, Row] = {}
        samples = self._dataset.samples.named(shard.sample_ids)
        prepared_samples = prepare_samples(self._dataset, samples, self.chat.used_pixels)
        for outcome in run_conversations(self._engine, prepared_samples, conversation):
            if isinstance(outcome, Quarantined):
                quarantined.append(outcome)
            else:
                done[outcome.sample_id] = outcome
            advance(1)
        check_num_quarantined(quarantined, len(samples), self._max_quarantined)
        return Taught([done[sample.id] for sample in samples if sample.id in done], quarantined)

    def close(self) -> None:
        """Free the engine."""
        self._engine.close()
