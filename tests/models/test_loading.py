"""A model is loaded whole and from this machine, or refused in a line that says what is wrong."""

from __future__ import annotations

import importlib.util
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig

from sekd.config import ModelSpec
from sekd.errors import ConfigError
from sekd.io import faults
from sekd.io.faults import StorageError
from sekd.models import loading
from sekd.models.loading import load_model, load_processor, model_directory, model_identity
from sekd.models.merge import merged_model
from sekd.stages.model_check import run_model_check

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DOWN = "model.text_model.layers.0.mlp.down_proj.weight"


@pytest.fixture
def copy(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model, to be changed."""
    return Path(shutil.copytree(tiny_model, tmp_path / "copy"))


def spec(path: Path, **others: object) -> ModelSpec:
    return ModelSpec(path=str(path), dtype="float32", **others)


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def change_config(folder: Path, **settings: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | settings), encoding="utf-8")


def rename(weights: dict[str, torch.Tensor]) -> None:
    weights["model.text_model.norm.scale"] = weights.pop("model.text_model.norm.weight")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop(DOWN), rf"do not fit the model: 1 missing: {DOWN}; get"),
        (
            lambda w: [w.pop(name) for name in list(w) if "down_proj" in name],
            r"4 missing: \S+, \S+, \S+, \.\.\.; get",
        ),
        (
            lambda w: w.update(extra=torch.zeros(2)),
            "1 not part of the model: extra; get",
        ),
        (
            lambda w: w.update({DOWN: w[DOWN][:, :5].clone()}),
            rf"1 of another shape: {DOWN} \(\d+x5 instead of \d+x\d+\); get",
        ),
        (
            rename,
            r"1 missing: model.text_model.norm.weight; "
            r"1 not part of the model: model.text_model.norm.scale; get",
        ),
    ],
    ids=["missing", "many missing", "unexpected", "mismatched", "renamed"],
)
def test_a_checkpoint_that_does_not_fit_its_model_is_refused(
    copy: Path, change: Callable[[dict[str, torch.Tensor]], None], message: str
) -> None:
    change_weights(copy, change)
    with pytest.raises(ConfigError, match=message):
        load_model(spec(copy))


def test_a_tied_head_may_be_missing(copy: Path) -> None:
    head = load_model(spec(copy)).get_output_embeddings().weight
    change_weights(
        copy, lambda w: w.update({"model.text_model.embed_tokens.weight": head.detach().clone()})
    )
    change_weights(copy, lambda w: w.pop("lm_head.weight", None))
    change_config(copy, tie_word_embeddings=True)
    assert torch.equal(load_model(spec(copy)).get_output_embeddings().weight, head)


def test_a_damaged_file_is_named(copy: Path) -> None:
    (copy / "model.safetensors").write_bytes(b"0" * 100)
    with pytest.raises(ConfigError, match=r"copy: cannot load the model: SafetensorError"):
        load_model(spec(copy))


def test_a_config_of_impossible_values_is_named(copy: Path) -> None:
    text = json.loads((copy / "config.json").read_text("utf-8"))["text_config"]
    change_config(copy, text_config=text | {"num_hidden_layers": "two"})
    with pytest.raises(ConfigError, match=r"copy: cannot load the config: .*num_hidden_layers"):
        load_model(spec(copy))


def test_a_directory_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no model there \(config.json is missing\)"):
        load_model(spec(tmp_path))


@pytest.mark.parametrize(
    ("model_type", "message"),
    [
        ("bert", "transformers .* has no vision-language model .* of type 'bert'$"),
        ("birdnet", "cannot load the config: ValueError: .*birdnet"),
    ],
)
def test_a_model_of_another_kind_is_refused(copy: Path, model_type: str, message: str) -> None:
    change_config(copy, model_type=model_type)
    with pytest.raises(ConfigError, match=message):
        load_model(spec(copy))


OWN_CODE = """
from transformers import Idefics3Config, Idefics3ForConditionalGeneration

class BirdConfig(Idefics3Config):
    model_type = "bird_vlm"

class BirdModel(Idefics3ForConditionalGeneration):
    config_class = BirdConfig
"""


def test_a_model_with_code_of_its_own_names_our_setting(
    copy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "own"))
    monkeypatch.syspath_prepend(str(tmp_path / "own"))
    (copy / "bird.py").write_text(OWN_CODE, encoding="utf-8")
    classes = {"AutoConfig": "bird.BirdConfig", "AutoModel": "bird.BirdModel"}
    change_config(copy, model_type="bird_vlm", auto_map=classes)
    with pytest.raises(ConfigError, match=r"read that code, then set model.trust_remote_code: tru"):
        load_model(spec(copy))
    with pytest.raises(ConfigError, match=r"'bird_vlm'; its own code has AutoConfig, AutoModel on"):
        load_model(spec(copy, trust_remote_code=True))
    change_config(copy, auto_map=classes | {"AutoModelForImageTextToText": "bird.BirdModel"})
    assert type(load_model(spec(copy, trust_remote_code=True))).__name__ == "BirdModel"


def test_a_missing_package_is_named(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ImportError("Package `num2words` is required to run SmolVLM processor.")

    monkeypatch.setattr(loading.AutoProcessor, "from_pretrained", fail)
    with pytest.raises(ConfigError, match=r"cannot load the processor: ImportError: .*num2w"):
        load_processor(spec(copy))


def test_a_folder_with_a_tokenizer_alone_has_no_processor(copy: Path) -> None:
    (copy / "processor_config.json").unlink()
    change_config(copy, model_type="llama")
    file = copy / "tokenizer_config.json"
    settings = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps(settings | {"processor_class": None}), encoding="utf-8")
    with pytest.raises(ConfigError, match="no processor of images and text, only a "):
        load_processor(spec(copy))


def test_warnings_of_transformers_are_in_our_log(
    copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = json.loads((copy / "config.json").read_text("utf-8"))["text_config"]
    change_config(copy, text_config=text | {"pad_token_id": 10**6})
    caplog.set_level(logging.DEBUG, logger="sekd")
    for _ in range(2):
        loading.load_model_config(spec(copy))
    ours = [record.message for record in caplog.records if record.name.startswith("sekd.")]
    (message,) = [message for message in ours if "1000000" in message]
    assert message.startswith("warning by transformers: Model config: pad_token_id must be")


# Quantised checkpoints

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes not installed"
)


@pytest.fixture
def quantised(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model as somebody quantised it to NF4 and saved it."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "quantised"))
    settings = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
    )
    model = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32, quantization_config=settings, device_map={"": "cpu"}
    )
    model.save_pretrained(folder)
    return folder


@needs_bitsandbytes
def test_a_quantised_checkpoint_is_loaded_as_it_is(quantised: Path, tiny_model: Path) -> None:
    model, whole = load_model(spec(quantised), "cpu"), load_model(spec(tiny_model), "cpu")
    assert model.get_submodule(DOWN.removesuffix(".weight")).weight.dtype == torch.uint8
    tokens = torch.arange(20, 40)[None]
    with torch.inference_mode():
        logits, expected = model(input_ids=tokens).logits, whole(input_ids=tokens).logits
    assert torch.corrcoef(torch.stack([logits.flatten(), expected.flatten()]))[0, 1] > 0.9


@needs_bitsandbytes
def test_a_quantised_checkpoint_is_not_quantised_again(quantised: Path) -> None:
    message = r"load_in_4bit: .*quantised is quantised already \(bitsandbytes\); leave load_in_4bit"
    with pytest.raises(ConfigError, match=message):
        load_model(spec(quantised), in_4bit=True)


@needs_bitsandbytes
def test_a_missing_weight_of_a_quantised_checkpoint_is_refused(quantised: Path) -> None:
    norm = "model.text_model.norm.weight"
    change_weights(quantised, lambda weights: weights.pop(norm))
    with pytest.raises(ConfigError, match=f"1 missing: {norm}"):
        load_model(spec(quantised))


@needs_bitsandbytes
def test_no_adapter_is_merged_into_a_quantised_checkpoint(quantised: Path, adapter: Path) -> None:
    with pytest.raises(ConfigError, match=r"weights that are quantised \(bitsandbytes\); merge it"):
        merged_model(spec(quantised), adapter)


@needs_bitsandbytes
def test_a_quantised_checkpoint_goes_through_both_passes(quantised: Path) -> None:
    findings = {finding.name: finding for finding in run_model_check(spec(quantised)).findings}
    assert findings["config"].detail.endswith("quantised by bitsandbytes")
    assert findings["weights"].verdict == findings["head"].verdict == "yes"
    assert findings["dialogue"].verdict == "yes"
    assert findings["adapter"].detail.startswith("LoRA on 28 layers")


def test_a_checkpoint_of_compressed_tensors_is_loaded_as_it_is(
    tiny_model: Path, copy: Path
) -> None:
    """Weights of 8 bits, packed, as vLLM's llm-compressor writes them."""
    pytest.importorskip("compressed_tensors")
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config

    whole = load_model(spec(tiny_model), "cpu")
    tokens = torch.arange(20, 40)[None]
    with torch.no_grad():
        expected = whole(input_ids=tokens).logits
    weights = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"}
    settings = QuantizationConfig(
        config_groups={"all": {"targets": ["Linear"], "weights": weights}},
        ignore=["lm_head", "re:.*vision.*", "re:.*connector.*"],
        format="pack-quantized",
    )
    apply_quantization_config(whole, settings)
    for module in whole.modules():
        if hasattr(module, "weight_scale"):
            module.weight_scale.data.copy_(module.weight.abs().amax(1, keepdim=True) / 127)
    compressor = ModelCompressor.from_pretrained_model(whole, quantization_format="pack-quantized")
    compressor.compress_model(whole)
    whole.save_pretrained(copy)
    compressor.update_config(str(copy))
    model = load_model(spec(copy), "cpu")
    assert loading.quantisation(model.config) == "compressed-tensors"
    assert "weight_packed" in dict(
        model.get_submodule(DOWN.removesuffix(".weight")).named_parameters()
    )
    with torch.no_grad():
        logits = model(input_ids=tokens).logits
    assert (logits - expected).abs().max() < 0.2
    assert torch.corrcoef(torch.stack([logits.flatten(), expected.flatten()]))[0, 1] > 0.999


# Places


def test_the_home_directory_is_expanded(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert model_directory(spec(Path("~/copy"))) == copy
    with pytest.raises(ConfigError, match=r"'.*/nowhere' is no directory, and no name of a model"):
        model_directory(spec(Path("~/nowhere")))


def test_a_file_is_no_model(copy: Path) -> None:
    with pytest.raises(ConfigError, match="is a file; give the directory of the model"):
        model_directory(spec(copy / "config.json"))


@pytest.fixture
def cached(copy: Path, tmp_path: Path) -> Path:
    """The folder of a model in a Hugging Face cache, with two snapshots."""
    root = tmp_path / "models--birds--tiny"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(COMMIT, encoding="utf-8")
    (root / "snapshots").mkdir()
    shutil.copytree(copy, root / "snapshots" / ("f" * 40))
    copy.rename(root / "snapshots" / COMMIT)
    return root


def test_a_folder_of_the_hub_cache_is_understood(cached: Path) -> None:
    main = cached / "snapshots" / COMMIT
    assert model_directory(spec(cached)) == main
    assert model_directory(spec(cached, revision="f" * 40)).name == "f" * 40
    assert model_identity(spec(cached))["content"] == model_identity(spec(main))["content"]
    (cached / "refs" / "main").unlink()
    with pytest.raises(ConfigError, match=rf"no snapshot of revision main there; .* {COMMIT}, fff"):
        model_directory(spec(cached))
    shutil.rmtree(cached / "snapshots" / ("f" * 40))
    assert model_directory(spec(cached)) == main


@pytest.mark.parametrize("place", ["snapshots/best", f"models--a--b/snapshots/{COMMIT}"])
def test_a_changed_file_changes_the_identity_whatever_the_folder_is_called(
    copy: Path, tmp_path: Path, place: str
) -> None:
    folder = tmp_path / place
    folder.parent.mkdir(parents=True)
    copy.rename(folder)
    before = model_identity(spec(folder))
    change_config(folder, new="setting")
    assert model_identity(spec(folder)) != before


@pytest.mark.parametrize(
    ("name", "load"),
    [
        ("AutoConfig", loading.load_model_config),
        ("AutoProcessor", loading.load_processor),
        ("AutoModelForImageTextToText", loading.load_model),
    ],
)
def test_a_passing_fault_of_storage_is_tried_again(
    name: str,
    load: Callable[[ModelSpec], object],
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(faults, "DELAYS", (0.0, 0.0))
    model = spec(tiny_model)
    read = getattr(loading, name).from_pretrained
    num_left = 2

    def read_from_a_stale_handle(*args: object, **kwargs: object) -> object:
        nonlocal num_left
        if num_left:
            num_left -= 1
            # As safetensors says it: Rust writes the errno into the message.
            raise SafetensorError("Error while loading: Stale file handle (os error 116)")
        return read(*args, **kwargs)

    monkeypatch.setattr(getattr(loading, name), "from_pretrained", read_from_a_stale_handle)
    load(model)
    assert num_left == 0
    num_left = 3
    with pytest.raises(StorageError, match="Stale file handle"):
        load(model)
