"""Training over a 4-bit base: what is quantised, what is trained, and the adapter that results."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from elicited import Elicited
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn

from sekd.errors import ConfigError
from sekd.models import loading
from sekd.models.batching import to_device
from sekd.stages.distill.adapter import add_adapter
from sekd.stages.distill.objective import Objective
from sekd.stages.distill.train import train

BLOCKS = "model.text_model.layers."


def test_only_the_blocks_of_the_language_model_are_quantised(elicited: Elicited) -> None:
    spec = elicited.config.model
    plain = dict(loading.load_model(spec).named_modules())
    for name, module in loading.load_model(spec, in_4bit=True).named_modules():
        if not isinstance(module, nn.Linear):
            continue
        assert isinstance(module, Linear4bit) == name.startswith(BLOCKS), name
        if isinstance(module, Linear4bit):
            state = module.weight.quant_state
            assert (state.quant_type, state.nested, state.dtype) == ("nf4", True, torch.float32)
        else:
            assert torch.equal(module.weight, plain[name].weight), name


@pytest.mark.parametrize("kind", ["plain", "rslora", "dora"])
def test_only_the_adapter_gets_a_gradient(elicited: Elicited, kind: str) -> None:
    lora = {"rank": 4, "load_in_4bit": True} | ({kind: True} if kind != "plain" else {})
    spec = elicited.with_spec(lora=lora).distill
    model = add_adapter(loading.load_model(elicited.config.model, in_4bit=True), spec)
    # In eval mode bitsandbytes repacks the weights on a CPU for inference without gradients.
    model.train()
    dataset = elicited.dataset(replay=0.5)
    objective = Objective(model, elicited.config.model, spec, dataset.layers)
    objective.weighted(objective(model, elicited.collate(list(dataset)))).backward()
    trained = {name for name, weights in model.named_parameters() if weights.grad is not None}
    assert trained == {name for name, _ in model.named_parameters() if "lora_" in name}
    assert len(trained) == 4 * 7 * (3 if kind == "dora" else 2)


def test_the_adapter_is_a_plain_peft_adapter(
    elicited: Elicited, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss falls, and the adapter works on a base that is not quantised."""
    losses: list[float] = []
    weighted = Objective.weighted

    def recorded(self: Objective, terms: dict[str, torch.Tensor]) -> torch.Tensor:
        loss = weighted(self, terms)
        losses.append(loss.item())
        return loss

    monkeypatch.setattr(Objective, "weighted", recorded)
    runtime = {"batch_size": 4, "logging_steps": 1, "gradient_checkpointing": True}
    config = elicited.with_spec(
        lora={"rank": 4, "alpha": 8, "dropout": 0.0, "load_in_4bit": True},
        replay=0.0,
        global_batch=4,
        epochs=8.0,
        learning_rate=0.01,
        runtime=runtime,
    )
    adapter = train(config, elicited.taxonomy, [elicited.shard], tmp_path)
    assert len(losses) == 8
    assert losses[-1] < 0.8 * losses[0]
    weights = load_file(adapter / "adapter_model.safetensors")
    assert len(weights) == 4 * 7 * 2
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    tokens = torch.arange(20, 40)[None]
    student = PeftModel.from_pretrained(loading.load_model(config.model), str(adapter))
    with torch.inference_mode():
        changed = student(input_ids=tokens).logits
        with student.disable_adapter():
            base = student(input_ids=tokens).logits
    assert (changed - base).abs().max() > 0.1


def test_without_bitsandbytes_the_message_says_how_to_get_it(
    elicited: Elicited, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(loading.metadata, "version", missing)
    with pytest.raises(ConfigError, match=r"load_in_4bit: .* pip install 'sekd\[qlora\]'$"):
        loading.load_model(elicited.config.model, in_4bit=True)


def test_images_do_not_take_the_dtype_of_quantised_weights() -> None:
    model = nn.ParameterList(
        [
            nn.Parameter(torch.zeros(2, dtype=torch.uint8), requires_grad=False),
            nn.Parameter(torch.zeros(2, dtype=torch.bfloat16)),
        ]
    )
    moved = to_device({"pixel_values": torch.ones(2), "input_ids": torch.ones(2).long()}, model)
    assert {name: value.dtype for name, value in moved.items()} == {
        "pixel_values": torch.bfloat16,
        "input_ids": torch.int64,
    }
