"""Load YAML of unknown origin: nothing is executed, and no alias multiplies what is in the file."""

from __future__ import annotations

import re
from typing import Any

import yaml

_MAX_VALUES = 2_000_000
"""The number of values that a file may stand for. Aliases of aliases ("billion laughs") stand for
any number of them in a few lines."""


class YamlLoader(yaml.SafeLoader):
    """Loads safe YAML, and reads ``5e-5`` as a number, which YAML 1.1 takes for a string.

    A key written twice is an error: plain YAML keeps the last one and drops the first silently.
    """

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        """Compose a mapping, and refuse a key that it has twice."""
        node = super().compose_mapping_node(anchor)
        known_keys = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in known_keys:
                raise yaml.composer.ComposerError(
                    None, None, f"the key {key.value} occurs twice", key.start_mark
                )
            known_keys.add(key.value)
        return node


class YamlDumper(yaml.SafeDumper):
    """Dumps YAML, and quotes what the loader reads as a number, such as commit ``12e4567``."""


for _yaml in (YamlLoader, YamlDumper):
    _yaml.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"),
        list("-+0123456789"),
    )


def load_yaml(text: str) -> Any:
    """Parse a YAML text.

    Raises:
        yaml.YAMLError: if it is malformed.
        ValueError: if it is nested too deeply, holds itself, or stands for too many values.
    """
    try:
        content = yaml.load(text, YamlLoader)  # noqa: S506  a SafeLoader
        num_values = _count_values(content, {})
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if num_values > _MAX_VALUES:
        raise ValueError(
            f"its aliases stand for {num_values:.0e} values; at most {_MAX_VALUES:,} are read"
        )
    return content


def _count_values(value: Any, known: dict[int, float]) -> float:
    """Count the values that a value stands for, each alias as often as it is used."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = float("inf")  # stays if the value holds itself
        items = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_count_values(item, known) for item in items)
    return known[id(value)]
