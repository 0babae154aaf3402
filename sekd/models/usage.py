"""How a trained model is asked: what its weights alone do not tell, in files beside them.

A training writes these files into the folder of the adapter, and ``sekd export`` into what it
gives away, so that nobody needs the run to ask the model as it was taught.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import ValidationError

from sekd import __version__
from sekd.config import DatasetSpec, ModelSpec, RunConfig
from sekd.config.base import AnswerForm, DType, Section
from sekd.config.messages import explain
from sekd.data.taxonomy import Taxonomy
from sekd.data.taxonomy_writer import write_taxonomy
from sekd.errors import ConfigError, in_one_line
from sekd.io.files import read_bytes, write_atomically
from sekd.io.yaml_files import YamlDumper
from sekd.models.prompts import PROMPT_VERSION, open_question
from sekd.models.wording import load_wording

USAGE = "sekd_usage.json"
TAXONOMY = "taxonomy.json"
WORDING = "wording.yaml"


class Usage(Section):
    """The content of ``sekd_usage.json``.

    The taxonomy and the templates of the prompts are in files of their own beside it, in the forms
    in which ``data.taxonomy`` and ``data.wording`` of a config take them.
    """

    sekd: str
    """Version of sekd that wrote the file."""
    prompt_version: int
    """Version of the prompts, see :data:`sekd.models.prompts.PROMPT_VERSION`."""
    base_model: str | None
    """Directory or Hugging Face id of the model that the adapter belongs to; ``None`` for a whole
    model."""
    revision: str | None = None
    """Revision of ``base_model``."""
    dtype: DType
    """Number format in which the model was trained and evaluated."""
    processor_args: dict[str, Any]
    """Arguments of the processor: the visual budget that the model was trained with."""
    chat_template_args: dict[str, Any]
    """Variables of the chat template."""
    formats: tuple[Literal["quiz", "open"], ...]
    """The forms of answers that the model learned, as in ``distill.formats``."""
    answer: AnswerForm
    """Form of the answers of a dialogue, as in ``elicit.answer``."""
    subject: str
    """The word for the thing in an image, as in ``data.subject``."""
    pixel_limit: int
    """Number of pixels above which an image is refused, as in ``data.pixel_limit``."""
    root: str = ""
    """Name of the root, with which the paths of ``taxonomy.json`` begin and answers do not; empty
    if it has none."""
    taxonomy: str
    """Digest of the taxonomy, see :meth:`sekd.data.taxonomy.Taxonomy.digest`."""
    open_prompt: str
    """The text of the prompt of open naming, which stands behind the image in the one turn."""

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read the file of a folder; ``None`` if there is none.

        Raises:
            ConfigError: if it is malformed, or of prompts that this version of sekd does not write.
        """
        path = folder / USAGE
        try:
            usage = cls.model_validate_json(read_bytes(path))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {in_one_line(error)}") from error
        except ValidationError as error:
            raise ConfigError(f"{path}: {'; '.join(explain(error, cls))}") from error
        if usage.prompt_version != PROMPT_VERSION:
            raise ConfigError(
                f"{path}: the model learned prompts of version {usage.prompt_version}, and this "
                f"version of sekd writes version {PROMPT_VERSION}; take sekd {usage.sekd}"
            )
        return usage

    def write(self, folder: Path) -> None:
        """Write the file into a folder."""
        text = json.dumps(self.model_dump(mode="json"), ensure_ascii=False, indent=1)
        write_atomically(folder / USAGE, f"{text}\n")


def usage_of(config: RunConfig, student: ModelSpec, taxonomy: Taxonomy) -> Usage:
    """Say how the student of a config is asked.

    Args:
        student: the model with the processor arguments that the student is trained with.
    """
    dataset = _taught_dataset(config)
    question = open_question(taxonomy.ranks, dataset.subject, load_wording(dataset.wording))
    return Usage(
        sekd=__version__,
        prompt_version=PROMPT_VERSION,
        base_model=student.path,
        revision=student.revision,
        dtype=student.dtype,
        processor_args=student.processor_args,
        chat_template_args=student.chat_template_args,
        formats=config.distill.formats,
        answer=config.elicit.answer,
        subject=dataset.subject,
        pixel_limit=dataset.pixel_limit,
        root=taxonomy.root.name,
        taxonomy=taxonomy.digest(),
        open_prompt=question,
    )


def write_usage_files(
    folder: Path, config: RunConfig, student: ModelSpec, taxonomy: Taxonomy
) -> None:
    """Write the three files that say how the student of a config is asked.

    Args:
        student: as in :func:`usage_of`.
    """
    usage_of(config, student, taxonomy).write(folder)
    write_taxonomy(taxonomy, folder / TAXONOMY)
    templates = load_wording(_taught_dataset(config).wording).model_dump(mode="json")
    text = yaml.dump(templates, Dumper=YamlDumper, sort_keys=False, allow_unicode=True)
    write_atomically(folder / WORDING, text)


def _taught_dataset(config: RunConfig) -> DatasetSpec:
    return config.dataset(config.elicit.dataset, "elicit.dataset")
