"""Models: loading, chat templates, batching, hooks, the language model head and stored states."""

import logging

# PEFT imports bitsandbytes wherever it is installed. bitsandbytes then warns, on every command,
# about a kernel from the model hub that it does not need.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
