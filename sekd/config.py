"""One YAML file describes a run; every key is checked, and nothing is executed from it.

Each stage has a *spec*, whose fields change the numbers and are hashed into fingerprints, and a
*runtime* (batch sizes, engine memory, workers), whose fields do not.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    model_validator,
)

from sekd.errors import ConfigError
from sekd.locations import Location, locate


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads ``5e-5`` as a number, which YAML 1.1 takes for a string.

    A key written twice is an error: plain YAML keeps the last one and drops the first silently.
    """

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for index, key in enumerate(keys):
            if key.value in (earlier.value for earlier in keys[:index]):
                raise yaml.composer.ComposerError(
                    None, None, f"the key {key.value} occurs twice", key.start_mark
                )
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes what :class:`_Loader` would read as a number, such as the commit ``12e4567``."""


for _yaml in (_Loader, _Dumper):
    _yaml.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"),
        list("-+0123456789"),
    )

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
DType = Literal["float32", "bfloat16", "float16"]
Divergence = Literal["forward", "reverse", "jsd"]
Distance = Literal["cosine", "mse"]
AnswerForm = Literal["letter", "letter_and_name"]
StateDType = Literal["float32", "bfloat16", "float8"]


def _run_dir(value: object) -> Location:
    if not isinstance(value, str | Path):
        raise ValueError("not a path or a URL")  # noqa: TRY004  pydantic reports no TypeError
    try:
        return locate(value)
    except ImportError as error:
        raise ValueError(f"no library for this kind of store: {error}") from error


RunDir = Annotated[Location, PlainValidator(_run_dir), PlainSerializer(str)]
Paradigm = Literal["joint", "independent", "conditioned"]
Control = Literal["blind", "shuffled", "circular", "siblings", "taxonomy"]
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.][A-Za-z0-9_.-]*$")]
BASE, STUDENT, SOLVER = "base", "student", "taxonomy"
"""Names of models that are evaluated without being asked for."""


class _Model(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


class ModelSpec(_Model):
    """The vision-language model, base of teacher and student."""

    path: str
    """A directory, a Hugging Face id, or ``tiny`` for the model inside this package."""
    revision: str | None = None
    """Commit, tag or branch of a Hugging Face id."""
    dtype: DType = "bfloat16"
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Off unless you have read that code."""
    processor_args: dict[str, Any] = {}
    """Passed to the processor as they are, e.g. ``{max_pixels: 1003520}``."""
    decoder_blocks: str | None = None
    """Module path of the language model's list of blocks, e.g. ``model.language_model.layers``.
    Only for a model where it is not found; the error lists what to choose from."""


class DatasetSpec(_Model):
    """Images, their taxonomy, and how questions about them are made."""

    taxonomy: Path
    """``.json`` of leaf -> root-first path, or ``.csv`` with one column per rank."""
    level_names: tuple[str, ...] = ()
    """What each position of a JSON path is called, e.g. ``[kingdom, phylum]``."""
    images: Path | None = None
    """A folder with one folder of images per leaf. Give this or ``table``."""
    table: Path | None = None
    """``.csv``, ``.jsonl`` or ``.parquet`` with one row per image. Give this or ``images``."""
    image_column: str = "image"
    leaf_column: str = "label"
    """Column of the leaf's label; a table without it, or an empty cell, means no label."""
    id_column: str | None = None
    """Column of the sample's id; its image path if not given."""
    image_root: Path | None = None
    """Where relative image paths of a table start; the table's own folder if not given."""
    image_prefix: str = ""
    """Removed from the front of a table's image paths first (paths of another machine)."""
    split: str | None = None
    """Keep only the rows of a table whose ``split`` column says so."""
    distractors: Literal["random", "siblings", "walk"] = "random"
    """Wrong options: any of the level, children of the same parent first, or (no label needed) all
    children of the node answered so far. A benchmark row with its own choices keeps those."""
    num_options: Annotated[int, Field(ge=2, le=26)] = 4
    seed: int = 0
    """Of options and their order, per sample."""
    subject: str = "organism"
    """What the image shows, in the words of a question: organism, dish, product ..."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.images is None) == (self.table is None):
            raise ValueError("give either images (a folder per leaf) or table")
        return self


class ShardRuntime(_Model):
    """How a stage with shards is carried out."""

    shard_size: Positive = 256
    """Samples per shard. The stored plan of a directory wins over this."""
    batch_size: Positive = 32
    """Images that go through the model together."""
    engine_args: dict[str, Any] = {}
    """Arguments of the engine that do not change its numbers, e.g. ``tensor_parallel_size``."""
    max_attempts: Positive = 3
    """Attempts at a shard, over all runs, before it is given up."""
    shard_timeout: Annotated[float, Field(gt=0)] | None = None
    """Seconds after which an attempt at a shard is given up."""
    executor: Literal["inline", "process", "ray"] = "inline"
    """One worker in this process, a process for each on this machine, or those of a Ray cluster."""
    workers: Positive = 1
    """Workers, an engine each, of the process and ray executors."""
    gpus_per_worker: Annotated[int, Field(ge=0)] = 0
    """Devices that each worker has to itself; 0 leaves what it sees as it is."""
    address: str | None = None
    """Of the Ray cluster, as ``ray.init`` takes it; without one a cluster is started here."""


class PlainSpec(_Model):
    """Prompts without a taxonomy, whose replies the student is not to forget; see
    ``distill.replay``. Not given by the paper."""

    prompts: tuple[str, ...] = ("Describe the image.",)
    """One of them is put to each image of the share; none for no plain prompts."""
    share: Fraction = 0.1
    """Of the images."""
    max_new_tokens: Positive = 64
    """Longest reply that is kept; a longer one is cut."""


class ElicitSpec(_Model):
    """Stage one: the frozen teacher walks the taxonomy."""

    dataset: str = "train"
    """Name under ``data``."""
    engine: Literal["transformers", "vllm"] = "transformers"
    engine_args: dict[str, Any] = {}
    """Arguments of the engine that change its numbers, e.g. ``quantization``."""
    adapter: Path | None = None
    """Directory of a PEFT adapter that the teacher answers with, e.g. that of an earlier student;
    without one it is the model itself."""
    style: Literal["dialogue", "facts"] = "dialogue"
    """One growing dialogue, whose every turn reuses what was computed for the turns before; or the
    paper's literal form, a prompt per level with the facts known so far in its question."""
    answer: AnswerForm = "letter_and_name"
    """What stands as the teacher's word in the dialogue: "B" or "B. chordata". Not given by the
    paper."""
    permutations: Annotated[int, Field(ge=1, le=26)] = 1
    """Orders in which each question's options are shown: rotations, whose probabilities are
    averaged by node. Lowers the bias towards letters; not given by the paper."""
    plain: PlainSpec = PlainSpec()
    top_k: Annotated[int, Field(ge=1, le=1000)] = 20
    """Entries of the whole vocabulary kept per answer, beside the options."""
    layers: tuple[str, ...] = ("middle", "final_norm")
    """Decoder states to keep: ``block_<i>`` (output of block i, from 0), ``middle`` (the block half
    way up), ``final_norm`` (input of the ``lm_head``). Not given by the paper."""
    states_engine: Literal["transformers", "vllm"] = "transformers"
    """What runs the state pass: hooks in transformers, for any layer and model; or vLLM, which is
    faster, for ``layers: [final_norm]`` alone and models that it can pool."""
    state_dtype: StateDType = "bfloat16"
    """How states are stored; ``float8`` is e4m3 with a scale for each row."""
    parity_limit: NonNegativeFloat | None = None
    """Largest mean difference, over a shard, between the options' log-probabilities in the engine
    and in the state pass, and a twentieth of the largest of one answer; beyond either the shard
    fails. Default by dtype: 1e-3 in float32, 0.05 in half precision."""
    max_quarantined: Fraction = 0.05
    """Share of a shard's samples that may be set aside before the shard itself fails."""
    runtime: ShardRuntime = ShardRuntime()


class LossWeights(_Model):
    """Weights of the loss terms; 1 : 1 : 1 is not given by the paper."""

    hard: NonNegativeFloat = 1.0
    """Cross-entropy on the teacher's letters."""
    format: NonNegativeFloat = 1.0
    """Cross-entropy on the tokens around the letters: level and node names."""
    soft: NonNegativeFloat = 1.0
    """Divergence of the teacher's and the student's distribution at the letters."""
    feature: NonNegativeFloat = 1.0
    """Distance between decoder states at the letters."""
    replay: NonNegativeFloat = 2.0
    """KL divergence from the base to the student on replayed sequences; see ``distill.replay``."""
    text: NonNegativeFloat = 0.0
    """Cross-entropy on all tokens of the answer alike, as plain fine-tuning has it: a baseline."""
    levels: tuple[NonNegativeFloat, ...] = ()
    """Relative weight of each level's letter in hard, soft and feature, from the first level on;
    1 beyond the last one given. Not given by the paper."""

    @model_validator(mode="after")
    def _teaches_something(self) -> Self:
        if not (self.hard or self.format or self.soft or self.feature or self.text):
            raise ValueError("hard, format, soft, feature and text are all 0: nothing is learned")
        return self


class LoraSpec(_Model):
    """Low-rank adapter on the linear layers of the language model."""

    rank: Positive = 64
    alpha: Positive = 64
    dropout: Fraction = 0.2
    target_modules: tuple[str, ...] = (
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    )  # fmt: skip
    """Last part of module names, or full paths. Only layers inside the language model's blocks are
    adapted; a full path to anything else is an error."""
    rslora: bool = False
    """Scale by alpha / sqrt(rank) instead of alpha / rank, for high ranks."""
    dora: bool = False
    """Learn lengths and directions apart. vLLM does not serve such adapters; merge them first."""
    load_in_4bit: bool = False
    """Train over a base in 4 bits (QLoRA); wants bitsandbytes. Its vision tower, its merger and its
    ``lm_head`` keep ``model.dtype``. Not given by the paper."""


class DistillRuntime(_Model):
    """How training is carried out; together with ``torchrun`` for several devices."""

    batch_size: Positive = 8
    """Samples per device and forward pass; gradients accumulate up to the global batch."""
    num_workers: NonNegativeInt = 4
    """Processes per device that read and prepare images while the device trains; 0 for none."""
    gradient_checkpointing: bool = False
    save_steps: Positive = 200
    logging_steps: Positive = 10
    report_to: tuple[str, ...] = ()
    """Trackers as transformers names them, e.g. ``[wandb]``. None unless asked."""


class DistillSpec(_Model):
    """Stage two: the LoRA student learns the joint prompt from the teacher's shards."""

    labels: Literal["teacher", "truth"] = "teacher"
    """Whose answers are learned. ``truth`` is the baseline of plain fine-tuning on labelled
    images; it takes no soft and no feature term."""
    losses: LossWeights = LossWeights()
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Of the soft term. Other than 1 only where the states have ``final_norm``."""
    divergence: Divergence = "forward"
    """Of the soft term: ``forward`` is KL(teacher || student). Not given by the paper."""
    distance: Distance = "cosine"
    """Of the feature term; ``mse`` is relative to the teacher's length. Not given by the paper."""
    layers: tuple[str, ...] = ()
    """Layers of the feature term, of those that ``elicit.layers`` stores; all if not given."""
    replay: Annotated[float, Field(ge=0, lt=1)] = 0.35
    """Share of the sequences that keep a skill of the base instead of teaching the joint prompt:
    the teacher's dialogues, its questions asked one by one, and its replies to ``elicit.plain``.
    The student is held to the base's distribution there. Not given by the paper."""
    min_confidence: Fraction = 0.0
    """Samples with an answer of which the teacher is less confident (its probability among the
    options) are left out. Not given by the paper."""
    lora: LoraSpec = LoraSpec()
    initial_adapter: Path | None = None
    """Directory of an adapter to go on from, instead of a fresh one; it has the same ``lora``."""
    epochs: Annotated[float, Field(gt=0)] = 1.0
    global_batch: Positive = 128
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.03
    """Share of the steps in which the learning rate rises."""
    weight_decay: NonNegativeFloat = 0.1
    seed: int = 0
    runtime: DistillRuntime = DistillRuntime()

    @model_validator(mode="after")
    def _has_signals_of_its_labels(self) -> Self:
        if self.labels == "truth" and (self.losses.soft or self.losses.feature):
            raise ValueError(
                "labels: truth: the teacher's distributions and states are of its own answers; "
                "set losses.soft and losses.feature to 0"
            )
        return self


class EvaluatedModel(_Model):
    """One more model to evaluate: the config's own, unless ``path`` names another."""

    path: str | None = None
    """As ``model.path``. The settings of the config's model do not carry over to another one."""
    revision: str | None = None
    dtype: DType = "bfloat16"
    trust_remote_code: bool = False
    processor_args: dict[str, Any] = {}
    adapter: Path | None = None
    """Directory of a PEFT adapter to answer with, e.g. that of another run's student."""

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        fields = type(self).model_fields
        given = [name for name in fields if getattr(self, name) != fields[name].default]
        if self.path is None and set(given) - {"adapter"}:
            raise ValueError(f"{', '.join(given)} without path: name the other model too")
        if self.path is None and self.adapter is None:
            raise ValueError("give path or adapter; without both it is the base")
        return self

    def spec(self, own: ModelSpec) -> ModelSpec:
        """The model to load; ``own`` is the config's."""
        if self.path is None:
            return own
        return ModelSpec(**self.model_dump(exclude={"adapter"}))


class EvaluateSpec(_Model):
    """Last stage: models on labelled images, one cell for each dataset, model, paradigm, control.

    The config's model (``base``) and its finished student (``student``) are always there.
    """

    models: dict[ModelName, EvaluatedModel] = {}
    """More models, by the name that they get in the tables."""
    datasets: tuple[str, ...] = ("test",)
    """Names under ``data``."""
    paradigms: tuple[Paradigm, ...] = ("joint", "independent", "conditioned")
    controls: tuple[Control, ...] = ("taxonomy", "blind")
    """What each cell is done again under, to tell what its figures owe to something else than the
    image: ``blind`` (no image), ``shuffled`` (options in another order), ``circular`` (options in
    every rotation; right is what is right in all of them), ``siblings`` (wrong options of the same
    parent); and ``taxonomy``, what a solver scores that knows the taxonomy and sees the options
    alone. ``circular`` asks as often as there are options. Not given by the paper."""
    control_limit: Positive | None = 500
    """Only the first so many samples of each dataset under a control; ``taxonomy`` takes all."""
    engine: Literal["transformers", "vllm"] = "transformers"
    engine_args: dict[str, Any] = {}
    limit: Positive | None = None
    """Only the first so many samples of each dataset."""
    num_bootstrap: Positive = 1000
    alpha: Fraction = 0.95
    """Weight of the last level in ``dwpa``."""
    seed: int = 0
    """Of the bootstrap, and of the order under ``shuffled``."""
    runtime: ShardRuntime = ShardRuntime()

    @model_validator(mode="after")
    def _names_each_once(self) -> Self:
        for key in ("datasets", "paradigms", "controls"):
            names: tuple[str, ...] = getattr(self, key)
            if len(set(names)) < len(names):
                raise ValueError(f"{key}: a name occurs twice in {', '.join(names)}")
        taken = {BASE, STUDENT, SOLVER} & self.models.keys()
        if taken:
            raise ValueError(
                f"models: {', '.join(sorted(taken))} is always there; give another name"
            )
        return self


_NO_TEACHER = {"hard": 0.0, "format": 0.0, "soft": 0.0, "feature": 0.0, "text": 1.0}
_ABLATION: dict[str, dict[str, Any]] = {
    "hard": {"losses": {"soft": 0.0, "feature": 0.0}},
    "hard_soft": {"losses": {"feature": 0.0}},
    "full": {},
    "text": {"losses": _NO_TEACHER},
    "truth": {"labels": "truth", "losses": _NO_TEACHER},
}


class SweepSpec(_Model):
    """Students of one teacher side by side, each with some settings of ``distill`` of its own."""

    variants: dict[ModelName, dict[str, Any]] = _ABLATION
    """By name, what differs from ``distill``, e.g. ``{small: {lora: {rank: 16}}}``. If not given,
    the paper's ablation (``hard``, ``hard_soft``, ``full``) and two baselines: plain fine-tuning on
    the teacher's answers (``text``) and, where all images are labelled, on the labels (``truth``).
    Replay is as ``distill`` has it in all of them."""
    seeds: tuple[int, ...] = ()
    """Each variant is trained once with each, in place of ``distill.seed``."""

    @model_validator(mode="after")
    def _names_each_once(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: one occurs twice in {', '.join(map(str, self.seeds))}")
        taken = {BASE, STUDENT, SOLVER} & self.variants.keys()
        if taken:
            raise ValueError(f"variants: {', '.join(sorted(taken))} is taken; give another name")
        return self


class BenchmarkSpec(_Model):
    """General benchmarks through lmms-eval, base and student with the same settings."""

    tasks: tuple[Annotated[str, Field(pattern=r"^[\w.+-]+$")], ...] = ()
    """Tasks or groups as lmms-eval names them, e.g. ``[mmbench_en_dev, gqa]``."""
    limit: Positive | None = None
    """Only the first so many samples of each task."""
    python: Path | None = None
    """The python of the environment where lmms-eval is installed; this one if not given."""
    include_path: Path | None = None
    """A folder of tasks of your own, as lmms-eval's ``--include_path`` takes it."""
    model: str = "transformers"
    """lmms-eval's name of what runs the model: ``transformers`` (sekd's own, for whatever loads as
    an image-text-to-text model), ``vllm``, ``qwen2_5_vl`` ..."""
    model_args: dict[str, str | int | float | bool] = {}
    """Further arguments of that, e.g. ``{gpu_memory_utilization: 0.7}`` of ``vllm``."""
    num_fewshot: NonNegativeInt | None = None
    """Examples before each question; the task's own number if not given."""
    batch_size: Positive = 1
    seed: int = 0
    """Of lmms-eval's random numbers and of the bootstrap."""
    num_bootstrap: Positive = 1000


class RunConfig(_Model):
    """One run, from images to metrics."""

    run_dir: RunDir
    """A path, or the URL of a place on a remote store: ``s3://bucket/birds``."""
    model: ModelSpec
    data: dict[str, DatasetSpec]
    elicit: ElicitSpec = ElicitSpec()
    distill: DistillSpec = DistillSpec()
    evaluate: EvaluateSpec = EvaluateSpec()
    benchmark: BenchmarkSpec = BenchmarkSpec()
    sweep: SweepSpec = SweepSpec()
    rounds: Positive = 1
    """Of ``sekd rounds``, at most: the student of one is the teacher of the next, and goes on from
    its adapter."""

    def variant(self, name: str) -> DistillSpec:
        """The settings of a variant of the sweep, every one filled in.

        Raises:
            ValidationError: if they do not fit. In a config that was loaded these are variants that
                nobody asked for.
        """
        own = self.distill.model_dump(mode="json")
        changed = _changed(own, self.sweep.variants[name])
        return DistillSpec.model_validate_json(json.dumps(changed))

    def dataset(self, name: str, asked_by: str) -> DatasetSpec:
        """The dataset of that name.

        Raises:
            ConfigError: if there is none; ``asked_by`` is the key that names it.
        """
        if name not in self.data:
            raise ConfigError(
                f"{asked_by}: no dataset {name!r} under data{_nearest(name, self.data)}"
            )
        return self.data[name]


def load_config(path: Location, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a YAML file, apply ``a.b=c`` overrides (values are YAML), validate.

    Relative paths of datasets and ``run_dir`` are taken from the current directory.

    Raises:
        ConfigError: one line that names the file, the key and what was wrong.
    """
    try:
        content = yaml.load(path.read_text("utf-8"), _Loader)  # noqa: S506  a SafeLoader
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such config file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected keys such as run_dir, model and data")
    for override in overrides:
        _apply(content, override)
    try:
        # By way of JSON, where strict validation still takes lists for tuples, strings for paths.
        config = RunConfig.model_validate_json(json.dumps(content))
    except TypeError as error:
        raise ConfigError(f"{path}: {error} (write dates and the like in quotes)") from error
    except ValidationError as error:
        raise ConfigError(f"{path}: {'; '.join(_explain(error))}") from error
    for name, changes in config.sweep.variants.items():
        if changes == _ABLATION.get(name):
            continue  # nobody asked for it; the sweep leaves it out if it does not fit
        try:
            config.variant(name)
        except ValidationError as error:
            place = ("sweep", "variants", name)
            explained = "; ".join(_explain(error, DistillSpec, place))
            raise ConfigError(f"{path}: {explained}") from error
    return config


def write_resolved(config: RunConfig, path: Location) -> None:
    """Write the config with every default filled in, as YAML."""
    if isinstance(path, Path):
        path.parent.mkdir(parents=True, exist_ok=True)
    content = config.model_dump(mode="json")
    text = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    path.write_text(text, encoding="utf-8")


def _apply(content: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override}: expected key=value, e.g. elicit.engine=vllm")
    *parents, last = key.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise ConfigError(f"--set {override}: {parent} has no keys below it")
    try:
        content[last] = yaml.load(value, _Loader)  # noqa: S506
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value is not valid YAML") from error


def _changed(own: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings with some of them replaced."""
    changed = dict(own)
    for key, value in changes.items():
        before = own.get(key)
        if isinstance(before, dict) and isinstance(value, Mapping):
            value = _changed(before, value)
        changed[key] = value
    return changed


def _explain(
    error: ValidationError, kind: type[_Model] = RunConfig, above: tuple[str, ...] = ()
) -> Iterator[str]:
    """One clause per problem of a ``kind`` that stands below the keys ``above``."""
    for problem in error.errors():
        place = ".".join(map(str, (*above, *problem["loc"])))
        if problem["type"] == "extra_forbidden":
            known = _siblings(kind, problem["loc"])
            yield f"unknown key {place}{_nearest(place.split('.')[-1], known)}"
        else:
            given = problem["input"]
            shown = f" (got {given!r})" if not isinstance(given, Mapping) else ""
            yield f"{place}: {problem['msg']}{shown}"


def _siblings(kind: Any, place: tuple[int | str, ...]) -> list[str]:
    """Keys that are allowed where the unknown key at ``place`` below a ``kind`` stands."""
    for part in place[:-1]:
        if get_origin(kind) is dict:
            kind = get_args(kind)[1]
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = kind.model_fields[str(part)].annotation
        else:
            return []
    return list(kind.model_fields) if hasattr(kind, "model_fields") else []


def _nearest(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; known: {', '.join(known)}" if known else ""
