"""The three stages, and what they share: the only part of sekd that knows models."""

import logging

# PEFT imports bitsandbytes wherever it is installed, and that tells on every command of a kernel of
# the model hub that it can do without.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
