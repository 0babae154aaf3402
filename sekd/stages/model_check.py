"""Check whether a model of this machine can be taught: ``sekd models check``."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

from transformers import PreTrainedModel

from sekd.config import EngineName, ModelSpec, RunConfig, load_config
from sekd.data.samples import Dataset
from sekd.data.shards import Shard, ShardResult
from sekd.data.signals import ANSWERS, TRANSCRIPTS
from sekd.data.toyworld import write_world
from sekd.engines import engine_version
from sekd.errors import ConfigError, SekdError, in_one_line
from sekd.models import loading
from sekd.models.batching import Batcher, forward_arguments
from sekd.models.chat import Chat
from sekd.models.lora_targets import find_targets
from sekd.models.plain import plain_prompt
from sekd.models.probe import probe_model, supports_prefix_reuse
from sekd.models.template import ChatTemplate
from sekd.stages.elicit.answers import AnswersWorker
from sekd.stages.elicit.parity import ParityGate
from sekd.stages.elicit.states import StatesWorker

logger = logging.getLogger(__name__)

Verdict = Literal["yes", "limited", "no", "untested"]
"""``limited`` works, with what the finding says; ``untested`` could not be checked."""
_Checked: TypeAlias = tuple[Verdict, str] | tuple[Verdict, str, str]
"""The verdict, the detail and, where something is to be done, the advice."""

_OPTIONAL = {"vllm"}
"""Checks whose ``no`` leaves a way to use the model."""
_WEIGHTS = ("*.safetensors", "*.bin")
_QUESTION = "QUESTION"
"""It stands for a question where a turn of the chat template is shown."""


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        advice: what to do; empty where nothing is to be done, or ``detail`` says it.
    """

    name: str
    verdict: Verdict
    detail: str
    advice: str = ""


@dataclass(frozen=True)
class ModelCheck:
    """All findings about a model, in the order in which things are needed.

    Attributes:
        model: its directory.
    """

    model: str
    findings: tuple[Finding, ...]

    @property
    def failed(self) -> list[str]:
        """Names of the checks that found something wrong without which the model is of no use."""
        return [
            finding.name
            for finding in self.findings
            if finding.verdict == "no" and finding.name not in _OPTIONAL
        ]

    @property
    def untested(self) -> list[str]:
        """Names of the checks that could not be made."""
        return [finding.name for finding in self.findings if finding.verdict == "untested"]

    @property
    def is_usable(self) -> bool:
        """Whether nothing that is needed failed; what could not be tested does not count."""
        return not self.failed

    def to_json(self) -> dict[str, Any]:
        """Return what ``sekd models check --json`` prints."""
        return {
            "model": self.model,
            "is_usable": self.is_usable,
            "failed": self.failed,
            "untested": self.untested,
            "findings": [asdict(finding) for finding in self.findings],
        }


def run_model_check(spec: ModelSpec, *, engine: EngineName = "transformers") -> ModelCheck:
    """Run every check; without weights, those that need none.

    Args:
        engine: runs the dialogue that the state pass is compared with.

    Raises:
        ConfigError: if there is no such model on this machine.
    """
    directory = loading.model_directory(spec)
    return ModelCheck(str(directory), tuple(_Checker(spec, directory, engine).run()))


class _Checker:
    """Checks one model; what an earlier check loaded is there for the later ones."""

    def __init__(self, spec: ModelSpec, directory: Path, engine: EngineName) -> None:
        self._spec = spec
        self._directory = directory
        self._engine: EngineName = engine
        self._model: PreTrainedModel | None = None

    def run(self) -> Iterator[Finding]:
        """Yield the finding of each check. One that needs what failed is left untested."""
        checks: list[tuple[str, Callable[[], _Checked], list[str]]] = [
            ("config", self._check_config, []),
            ("processor", self._check_processor, []),
            ("template", self._check_template, ["processor"]),
            ("reasoning", self._check_reasoning, ["template"]),
            ("letters", self._check_letters, ["template"]),
            ("first token", self._check_first_token, ["letters"]),
            ("picture", self._check_picture, ["config", "letters"]),
            ("blocks", self._check_blocks, ["config"]),
            ("adapter", self._check_adapter, ["blocks"]),
            ("transformers", self._check_transformers, ["config"]),
            ("vllm", self._check_vllm, ["config", "processor"]),
            ("weights", self._check_weights, ["config"]),
            ("head", self._check_head, ["weights", "picture"]),
            ("dialogue", self._check_dialogue, ["weights", "picture", "blocks"]),
        ]
        lacking: set[str] = set()
        for name, check, needs in checks:
            finding = self._find(name, check, [need for need in needs if need in lacking])
            if finding.verdict in ("no", "untested"):
                lacking.add(name)
            yield finding
        loading.free_memory()

    def _find(self, name: str, check: Callable[[], _Checked], lacking: list[str]) -> Finding:
        if lacking:
            return Finding(name, "untested", f"it needs: {', '.join(lacking)}")
        logger.debug("checking: %s", name)
        try:
            return Finding(name, *check())
        except SekdError as error:
            return Finding(name, "no", str(error))
        except Exception as error:
            logger.debug("%s", name, exc_info=error)
            return Finding(name, "no", in_one_line(error, limit=300))

    @cached_property
    def _processor(self) -> Any:
        return loading.load_processor(self._spec)

    @cached_property
    def _template(self) -> ChatTemplate:
        return ChatTemplate(self._processor, arguments=self._spec.chat_template_args)

    @cached_property
    def _chat(self) -> Chat:
        arguments = self._spec.chat_template_args
        return Chat(self._processor, subject="organism", template_args=arguments)

    @cached_property
    def _meta_model(self) -> PreTrainedModel:
        return loading.meta_model(self._spec)

    # What needs the processor alone

    def _check_processor(self) -> _Checked:
        kind = type(self._processor).__name__
        plain = loading.load_processor(self._spec.model_copy(update={"processor_args": {}}))
        ignored = []
        for name, value in self._spec.processor_args.items():
            spec = self._spec.model_copy(update={"processor_args": {name: value}})
            if loading.load_processor(spec).to_json_string() == plain.to_json_string():
                ignored.append(name)
        if ignored:
            return (
                "limited",
                f"{kind} ignores {', '.join(ignored)}, or has the same value by default",
                "leave it out of model.processor_args, or use the processor's own name for it",
            )
        given = ", ".join(f"{name}={value}" for name, value in self._spec.processor_args.items())
        return "yes", f"{kind}, {given or 'no processor_args'}"

    def _check_template(self) -> _Checked:
        template = self._template
        turn = f"{template.open(_QUESTION)}{template.answer_lead}B{template.end}"
        shown = turn[turn.index(_QUESTION) :]
        date = "; its date is fixed" if template.writes_date else ""
        return "yes", f"one {template.image_token} for the image, then {shown!r}{date}"

    def _check_reasoning(self) -> _Checked:
        start = self._template.forced_start
        if start.strip():
            return "yes", f"what the template opens is closed by {start!r}, then comes the letter"
        return "yes", "the template opens no reasoning block"

    def _check_letters(self) -> _Checked:
        stop = self._chat.tokenizer.convert_ids_to_tokens(self._chat.stop_id)
        return "yes", f"A to Z are one token each; {stop} ends a turn"

    def _check_first_token(self) -> _Checked:
        tokenizer, first = self._chat.tokenizer, self._chat.image_prefix_ids[0]
        name = tokenizer.convert_ids_to_tokens(first)
        if self._chat.prefix_ids and self._chat.image_prefix_ids[0] == self._chat.prefix_ids[0]:
            return "yes", f"the tokenizer puts {name} in front, as the model expects"
        if first == tokenizer.bos_token_id:
            return "yes", f"the template writes {name}"
        return "yes", f"no beginning of sequence; a prompt begins with {name}"

    # What needs the config, or the model without weights

    def _check_config(self) -> _Checked:
        config = loading.load_model_config(self._spec)
        method = loading.quantisation(config)
        quantised = f", quantised by {method}" if method else ""
        names = ", ".join(config.architectures or ["no architecture named"])
        return "yes", f"{config.model_type} ({names}){quantised}"

    def _check_picture(self) -> _Checked:
        prompt = plain_prompt(self._chat)
        batcher = Batcher(self._chat, forward_arguments(self._meta_model))
        batch = batcher([prompt.token_ids], [prompt.image], [prompt.image_key])
        size = f"{prompt.image.width}x{prompt.image.height}"
        return "yes", f"a picture of {size} pixels takes {batch.shifts[0] + 1} tokens"

    def _check_blocks(self) -> _Checked:
        path, blocks = loading.decoder_blocks(self._meta_model, self._spec.decoder_blocks)
        return "yes", f"{len(blocks)} in {path}"

    def _check_adapter(self) -> _Checked:
        targets = find_targets(self._meta_model, None, self._spec.decoder_blocks)
        detail = f"LoRA on {len(targets.modules)} layers: {', '.join(targets.names)}"
        if not targets.frozen_experts:
            return "yes", detail
        experts = " and ".join(targets.frozen_experts)
        share = f"{targets.frozen_share:.0%} of the weights of the blocks stay frozen"
        return (
            "limited",
            f"{detail}; {share}, and in full precision under load_in_4bit: {experts}",
            "name them in distill.lora.target_modules, with dropout: 0, to adapt them",
        )

    def _check_transformers(self) -> _Checked:
        if supports_prefix_reuse(self._meta_model.config):
            return "yes", "each turn computes only its new tokens"
        return "limited", "each turn is computed from the beginning: its cache cannot be shortened"

    def _check_vllm(self) -> _Checked:
        try:
            version = engine_version("vllm")["version"]
        except ConfigError as error:
            return "untested", str(error)
        from sekd.engines.vllm_model import vllm_support

        support = vllm_support(self._spec)
        if support.architecture is None:
            return "no", f"{version}: {support.problem}", "set engine: transformers"
        adapters = "" if support.serves_adapters else "; it serves no LoRA adapters"
        if support.is_native:
            verdict: Verdict = "yes" if support.serves_adapters else "limited"
            return verdict, f"{version} has {support.architecture}{adapters}"
        return "limited", f"{version} runs transformers' code for it, in a process apart{adapters}"

    # What needs weights

    def _check_weights(self) -> _Checked:
        if not any(any(self._directory.glob(pattern)) for pattern in _WEIGHTS):
            return "untested", "there are none in the directory"
        self._model = loading.load_model(self._spec)
        num_parameters = self._model.num_parameters()
        return "yes", f"{num_parameters:,} parameters, none missing and none left over"

    def _check_head(self) -> _Checked:
        model = self._model
        assert model is not None
        batcher = Batcher(self._chat, forward_arguments(model))
        difference = probe_model(model, self._chat, batcher).head_difference
        limit = ParityGate.of(self._spec.dtype, "bfloat16", None).limit
        detail = f"log-probabilities from a state differ by {difference:.1g} from the model's own"
        return ("yes" if difference <= limit else "no"), f"{detail}; the limit is {limit:g}"

    def _check_dialogue(self) -> _Checked:
        self._model = None  # each pass loads the model for itself
        loading.free_memory()
        with tempfile.TemporaryDirectory() as folder:
            write_world(Path(folder) / "world", num_train=1, num_test=1, seed=0)
            config = load_config(Path(folder) / "world" / "config.yaml")
            elicit = config.elicit.model_copy(update={"engine": self._engine})
            config = config.model_copy(update={"model": self._spec, "elicit": elicit})
            answers, states = _run_dialogue(config, Path(folder))
        limit = ParityGate.of(self._spec.dtype, config.elicit.state_dtype, None).limit
        return (
            "yes",
            f"{answers.stats['num_answers']} answers about a drawn picture; {self._engine} and the "
            f"state pass differ by {states.stats['parity_max']:.1g} at most, allowed are {limit:g} "
            "on average",
        )


def _run_dialogue(config: RunConfig, folder: Path) -> tuple[ShardResult, ShardResult]:
    """Run one sample through both stages of an elicitation.

    Raises:
        ConfigError: if the sample is set aside.
        ShardError: if the state pass disagrees with the engine.
    """
    dataset = Dataset.load("train", config.data["train"])
    shard = Shard(0, tuple(dataset.samples.ids.to_pylist()))
    (folder / "answers").mkdir()
    (folder / "states").mkdir()
    answers_worker = AnswersWorker(config, dataset)
    try:
        answers = answers_worker.process(shard, folder / "answers", lambda _: None)
    finally:
        answers_worker.close()
    files = {0: (answers.files[TRANSCRIPTS], answers.files[ANSWERS])}
    states_worker = StatesWorker(config, files)
    try:
        return answers, states_worker.process(shard, folder / "states", lambda _: None)
    finally:
        states_worker.close()
