"""A plain drawn picture that every model should take, and a prompt about it.

Where a model fails on a user's image, this picture tells a fault of the image from a fault of the
model or its set-up.
"""

from __future__ import annotations

from typing import NamedTuple

from PIL import Image, ImageDraw

from sekd.models.chat import Chat, TokenIds

_SIZE = (224, 160)
_TEXT = "What is the color of the round shape? Answer with one word."


class PlainPrompt(NamedTuple):
    """A prompt about the plain picture, with one image placeholder."""

    token_ids: TokenIds
    image: Image.Image
    image_key: str


def plain_image() -> Image.Image:
    """Draw a picture of two shapes."""
    image = Image.new("RGB", _SIZE, (230, 225, 210))
    draw = ImageDraw.Draw(image)
    draw.ellipse((24, 32, 104, 112), fill=(190, 40, 30))
    draw.rectangle((120, 72, 200, 136), fill=(40, 90, 170))
    return image


def plain_prompt(chat: Chat) -> PlainPrompt:
    """Ask about the plain picture."""
    return PlainPrompt(chat.plain_prompt(_TEXT), plain_image(), "plain")
