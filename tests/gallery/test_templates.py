"""The gallery finds the vision templates that the installed packages ship."""

from __future__ import annotations

import pytest
from gallery_templates import (
    package_folder,
    render,
    turn,
    vision_template,
    vision_templates,
    with_placeholder,
)

WORD = "herring gull"


def test_every_package_with_templates_contributes_some() -> None:
    installed = {
        package
        for package in ("trl", "vllm", "transformers", "mistral_common")
        if package_folder(package)
    }
    assert {template.package for template in vision_templates()} == installed


def test_names_are_unique() -> None:
    names = [template.name for template in vision_templates()]
    assert len(names) == len({*names})


@pytest.mark.skipif(package_folder("trl") is None, reason="trl not installed")
def test_the_templates_of_trl_are_those_that_mention_images() -> None:
    folder = package_folder("trl")
    assert folder is not None
    files = (folder / "chat_templates").glob("*.jinja")
    expected = {file.stem for file in files if "image" in file.read_text("utf-8")}
    found = {template.name for template in vision_templates() if template.package == "trl"}
    assert found == expected
    assert len(found) >= 30


def test_a_template_shows_one_image_and_both_roles() -> None:
    for template in vision_templates():
        as_string = template.takes_strings
        messages = [
            turn("user", WORD, image=not as_string, as_string=as_string),
            turn("assistant", "B. chordata", as_string=as_string),
        ]
        text = template.render(messages, is_open=False)
        assert WORD in text, template.name
        assert "B. chordata" in text, template.name
        assert as_string or text.count(template.image) == 1, template.name


def test_another_placeholder_can_be_put_into_a_template() -> None:
    text = with_placeholder(vision_template("smolvlm_transformers"), "<picture>")
    rendered = render(text, [turn("user", WORD, image=True)], is_open=True)
    assert rendered.count("<picture>") == 1
    assert "<image>" not in rendered
