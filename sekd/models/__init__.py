"""Models: loading, chat templates, batching, hooks, the language model head and stored states."""

import logging
import os

OFFLINE_BY_SEKD = "HF_HUB_OFFLINE" not in os.environ
"""Whether the switch below is sekd's. Programs that sekd starts and that do download get none."""

# Models come from this machine (ADR 5). Given a directory, PEFT and transformers may still ask the
# hub for files that are not in it. The libraries read this when they are imported.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# PEFT imports bitsandbytes wherever it is installed. bitsandbytes then warns, on every command,
# about a kernel from the model hub that it does not need.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
