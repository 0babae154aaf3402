"""Messages about unknown keys name the nearest known one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sekd.config import RunConfig
from sekd.errors import ConfigError

Load = Callable[..., RunConfig]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("elict: {}", "unknown key elict; did you mean elicit?"),
        ("elicit: {topk: 5}", "unknown key elicit.topk; did you mean top_k?"),
        (
            "elicit: {runtime: {batchsize: 5}}",
            "unknown key elicit.runtime.batchsize; did you mean batch_size?",
        ),
        ("distill: {losses: {sofft: 1}}", "unknown key distill.losses.sofft; did you mean soft?"),
        (
            "distill: {losses: {zzz: 1}}",
            "unknown key distill.losses.zzz; known: hard, format, soft, feature",
        ),
        (
            "sweep: {variants: {small: {lora: {rnk: 4}}}}",
            "unknown key sweep.variants.small.lora.rnk; did you mean rank?",
        ),
        (
            "sweep: {variants: {small: {epoch: 4}}}",
            "unknown key sweep.variants.small.epoch; did you mean epochs?",
        ),
    ],
)
def test_unknown_keys_are_named_with_the_nearest(load: Load, more: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(more)
    assert message in str(error.value)
