"""Real chat templates of vision-language models, read from the packages that are installed.

Nothing is copied into the project: a template that a package changes is changed here too. A
template is found by what it does: it renders a user's image as a placeholder. Templates that take
plain strings only, and leave the placeholder to the caller, are found in the folder where vLLM
keeps them for vision-language models.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2.exceptions import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

Messages = Sequence[dict[str, Any]]

SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
"""What a tokenizer contributes to a rendering; a family's own names replace these."""

_JINJA_FOLDERS = (("trl", "chat_templates"), ("vllm", "transformers_utils/chat_templates"))
_PYTHON_CONSTANTS = (
    ("transformers", "models/smolvlm/processing_smolvlm.py", "DEFAULT_CHAT_TEMPLATE"),
    ("transformers", "models/llama4/processing_llama4.py", "chat_template"),
    ("vllm", "transformers_utils/processors/moondream3.py", "_default_chat_template"),
    ("vllm", "transformers_utils/processors/muse_glimmer.py", "MUSE_GLIMMER_MM_CHAT_TEMPLATE"),
)
_MISTRAL_VERSIONS = (("v3", True), ("v3", False), ("v7", True), ("v7", False), ("v11", False))
"""Versions of Mistral's tokenizers whose templates show images, and whether by SentencePiece."""

_PLACEHOLDER = re.compile(r"<[^<>\s]*(?:image|patch)[^<>\s]*>|\[IMG\]")


@dataclass(frozen=True)
class VisionTemplate:
    """A chat template as a package ships it.

    Attributes:
        package: the distribution that it comes from.
        name: unique among all; the file's name without its suffix, as far as there is a file.
        text: the Jinja source.
        image: the placeholder that stands for one image, or "" if ``takes_strings``.
        takes_strings: whether a message's content must be a string, not a list of parts.
    """

    package: str
    name: str
    text: str
    image: str
    takes_strings: bool

    def render(self, messages: Messages, *, is_open: bool, **variables: Any) -> str:
        """The text of a dialogue; ``is_open`` asks for the generation prompt."""
        return render(self.text, messages, is_open=is_open, **variables)


def render(text: str, messages: Messages, *, is_open: bool, **variables: Any) -> str:
    """Render a dialogue as transformers' processors and tokenizers do."""
    rendered, _ = render_jinja_template(
        conversations=[list(messages)],
        chat_template=text,
        add_generation_prompt=is_open,
        **{**SPECIAL_TOKENS, **variables},
    )
    return str(rendered[0])


def turn(role: str, text: str, *, image: bool = False, as_string: bool = False) -> dict[str, Any]:
    """One message, with the image before the text."""
    if as_string:
        return {"role": role, "content": text}
    parts: list[dict[str, str]] = [{"type": "image"}] if image else []
    return {"role": role, "content": [*parts, {"type": "text", "text": text}]}


@cache
def vision_templates() -> tuple[VisionTemplate, ...]:
    """All vision templates of the installed packages, in the order of their packages."""
    sources = [*_jinja_files(), *_constants(), *_mistral()]
    return tuple(filter(None, (_examine(*source) for source in sources)))


def vision_template(name: str) -> VisionTemplate:
    """The template of that name."""
    return {template.name: template for template in vision_templates()}[name]


def with_placeholder(template: VisionTemplate, image: str) -> str:
    """The template's text with another placeholder, for a family whose own nobody ships."""
    shown = _shown_image(template.text)
    if shown is None or template.text.count(shown) < 1:
        raise ValueError(f"{template.name} does not spell its image out")
    return template.text.replace(shown, image)


def package_folder(package: str) -> Path | None:
    """Where an installed package lies; it is not imported."""
    found = importlib.util.find_spec(package)
    return Path(found.origin).parent if found and found.origin else None


def _jinja_files() -> Iterator[tuple[str, str, str]]:
    for package, subfolder in _JINJA_FOLDERS:
        folder = package_folder(package)
        for path in sorted((folder / subfolder).glob("*.jinja")) if folder else ():
            yield package, path.stem, path.read_text("utf-8")


def _constants() -> Iterator[tuple[str, str, str]]:
    """Templates that stand in Python source; read, because imports of these files are heavy."""
    for package, file, constant in _PYTHON_CONSTANTS:
        folder = package_folder(package)
        if folder is None or not (folder / file).is_file():
            continue
        for node in ast.walk(ast.parse((folder / file).read_text("utf-8"))):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == constant:
                name = Path(file).stem.removeprefix("processing_")
                yield package, f"{name}_{package}", ast.literal_eval(node.value)


def _mistral() -> Iterator[tuple[str, str, str]]:
    """The templates that mistral-common writes for its own tokenizers."""
    if package_folder("mistral_common") is None:
        return
    from mistral_common.integrations.chat_templates.template_generator import (
        TemplateConfig,
        build_chat_template,
    )
    from mistral_common.tokens.tokenizers.base import TokenizerVersion

    for version, is_sentencepiece in _MISTRAL_VERSIONS:
        config = TemplateConfig(
            version=TokenizerVersion(version),
            spm=is_sentencepiece,
            image_support=True,
            use_special_token_variables=True,
        )
        kind = "sentencepiece" if is_sentencepiece else "tekken"
        yield "mistral_common", f"mistral_{version}_{kind}", build_chat_template(config)


def _examine(package: str, name: str, text: str) -> VisionTemplate | None:
    """The template, unless it is one of a model without eyes."""
    image = _shown_image(text)
    if image is not None and (placeholder := _PLACEHOLDER.search(image)):
        return VisionTemplate(package, name, text, placeholder.group(), takes_strings=False)
    if package == "vllm" and "audio" not in name and _renders(text, as_string=True):
        return VisionTemplate(package, name, text, "", takes_strings=True)
    return None


def _shown_image(text: str) -> str | None:
    """What a template writes for an image, or ``None`` if it cannot take a list of parts."""
    try:
        blind, seeing = (
            render(text, [turn("user", "word", image=image)], is_open=True)
            for image in (False, True)
        )
    except (TemplateError, TypeError, ValueError):
        return None
    start = len(_common_prefix(blind, seeing))
    if blind[start - 1 : start] == "<":  # both go on with a token, but with another one
        start -= 1
    end = len(_common_prefix(blind[start:][::-1], seeing[start:][::-1]))
    return seeing[start : len(seeing) - end]


def _renders(text: str, *, as_string: bool) -> bool:
    try:
        rendered = render(text, [turn("user", "word", as_string=as_string)], is_open=True)
    except (TemplateError, TypeError, ValueError):
        return False
    return "word" in rendered


def _common_prefix(one: str, other: str) -> str:
    pairs = zip(one, other, strict=False)
    length = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
    return one[:length]
