"""Networks that a run reads and never trains, such as the KL reference: a checkpoint holds their hash alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import nn


class Frozen:
    """The hash of a network's weights; a run may be resumed only with the very same network beside what it trains."""

    def __init__(self, model: nn.Module):
        self.sha256 = weights_sha256(model)

    def state_dict(self) -> dict[str, str]:
        return {"sha256": self.sha256}

    def load_state_dict(self, state: Mapping[str, str]) -> None:
        """Check that the network is that of the checkpoint; ValueError with both hashes when it is not."""
        if state["sha256"] != self.sha256:
            raise ValueError(
                f"it was written with a network of other weights (SHA-256 {state['sha256'][:12]}, "
                f"here {self.sha256[:12]}); the run was made from another model"
            )


def weights_sha256(model: nn.Module) -> str:
    """Return the SHA-256 over names, types, shapes and bytes of all weights and buffers that a model saves."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
