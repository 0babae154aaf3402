"""Let the tests import the plain torchvision wheel beside a CPU build of torch.

The wheel's compiled operators are for CUDA and do not load there, and its import then fails because
two of them do not exist. This module declares the two, without a body, just before torchvision is
imported; image transforms never call them. `make test` copies this file, and the .pth file that
imports it, into the virtual environment's site-packages, so that vLLM's processes have it too.
"""

import sys


class _DeclareOperators:
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            if "+cpu" in torch.__version__:
                schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                torch.library.define("torchvision::nms", schema)
                torch.library.define("torchvision::qnms", schema)


sys.meta_path.insert(0, _DeclareOperators())
