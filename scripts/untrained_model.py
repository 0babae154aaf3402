"""Build the tiny vision-language model with random weights, and its processor."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    PreTrainedTokenizerFast,
)

from sekd.data import toyworld
from sekd.data.questions import LETTERS, labelled_questions
from sekd.data.taxonomy import Taxonomy
from sekd.models import prompts

SUBJECT = "organism"
PATCH_SIZE, PIXEL_SHUFFLE = 14, 2
NUM_IMAGE_TOKENS = (toyworld.IMAGE_SIZE // PATCH_SIZE // PIXEL_SHUFFLE) ** 2
SPECIAL_TOKENS = (
    "<pad>", "<unk>", "<bos>", "<user>", "<assistant>",
    "<end_of_utterance>", "<image>", "<fake_token_around_image>", "<global-img>",
)  # fmt: skip
CAPTION_QUESTION = f"Describe the {SUBJECT} in the image."
MATCHING_QUESTION = "Which letter is"
READING_QUESTION = "Which name is"
CHAT_TEMPLATE = (
    "<bos>{% for message in messages %}<{{ message['role'] }}>"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<end_of_utterance>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
IMAGE_TEXT = (
    "<fake_token_around_image><global-img>"
    + "<image>" * NUM_IMAGE_TOKENS
    + "<fake_token_around_image>"
)


def build_processor(worlds: Sequence[toyworld.World]) -> Idefics3Processor:
    """Return a processor whose tokenizer has one token for each name and each prompt word."""
    words = {"\n", *LETTERS, *"0123456789"}
    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[^\S\n]+"), "removed"),
            pre_tokenizers.Split(Regex(r"\n|[A-Za-z]+|[0-9]|[^\sA-Za-z0-9]"), "isolated"),
        ]
    )
    for world in worlds:
        taxonomy = load_taxonomy(world)
        leaf = taxonomy.path(taxonomy.leaf(world.path((0, 0, 0, 0))[-1]))[-1]
        questions = labelled_questions(
            taxonomy, leaf, sample_id="", distractors="random", num_options=2, seed=0
        )
        texts = [
            *world.names.values(),
            prompts.single_question(questions[0], [taxonomy.root], SUBJECT),
            prompts.single_question(questions[0], [], SUBJECT),
            prompts.next_question(questions[0]),
            prompts.joint_questions(questions, taxonomy.root, SUBJECT),
            prompts.open_question(taxonomy.ranks, SUBJECT),
            *(rank + ":." for rank in toyworld.RANKS),
            MATCHING_QUESTION,
            READING_QUESTION,
            CAPTION_QUESTION,
            "object item species animal plant food level",
        ]
        for text in texts:
            words |= {word for word, _ in splitter.pre_tokenize_str(text)}
    vocabulary = {word: i for i, word in enumerate([*SPECIAL_TOKENS, *sorted(words)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = splitter
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<bos>",
        eos_token="<end_of_utterance>",
        extra_special_tokens=list(SPECIAL_TOKENS[3:]),
        clean_up_tokenization_spaces=False,
    )
    side = {"longest_edge": toyworld.IMAGE_SIZE}
    image_processor = Idefics3ImageProcessor(
        size=side,
        max_image_size=side,
        do_image_splitting=False,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return Idefics3Processor(
        image_processor, fast, image_seq_len=NUM_IMAGE_TOKENS, chat_template=CHAT_TEMPLATE
    )


def load_taxonomy(world: toyworld.World) -> Taxonomy:
    return Taxonomy.from_paths(world.taxonomy(), level_names=toyworld.RANKS, source=world.name)


def build_model(tokenizer: PreTrainedTokenizerFast) -> Idefics3ForConditionalGeneration:
    config = Idefics3Config(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
        scale_factor=PIXEL_SHUFFLE,
        tie_word_embeddings=True,
        vision_config={
            "hidden_size": 96,
            "intermediate_size": 192,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": toyworld.IMAGE_SIZE,
            "patch_size": PATCH_SIZE,
        },
        text_config={
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 1024,
            "tie_word_embeddings": True,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
    )
    return Idefics3ForConditionalGeneration(config)
