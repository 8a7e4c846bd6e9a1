"""Running a torch classifier over tokenised tweets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from sentiment.records import LABELS
from sentiment.training.batching import pad, sorted_batches
from sentiment.training.recipes import Precision


class Logits(torch.nn.Module):
    """A transformers classifier (which answers with a record) as a function from tensors to a tensor."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        output = self.model(input_ids=input_ids, attention_mask=attention_mask)
        logits: torch.Tensor = output if isinstance(output, torch.Tensor) else output.logits
        return logits


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the context in which the forward pass runs in `precision`.

    ``auto`` takes bfloat16 where the processor multiplies it natively: twice as
    fast there, several times slower elsewhere.
    """
    native = (
        device.type == "cuda" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )
    enabled = precision == "bfloat16" or (precision == "auto" and native)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


@torch.no_grad()
def logits(
    model: torch.nn.Module,
    token_ids: Sequence[Sequence[int]],
    device: torch.device,
    precision: Precision = "float32",
    batch_size: int = 64,
) -> npt.NDArray[np.float32]:
    """Return the logits of tokenised texts, shape (texts, 3)."""
    model.eval()
    result = np.empty((len(token_ids), len(LABELS)), dtype=np.float32)
    for rows in sorted_batches(token_ids, batch_size):
        ids, mask = pad([token_ids[row] for row in rows])
        with autocast(device, precision):
            output = Logits(model)(ids.to(device), mask.to(device))
        result[rows] = output.float().cpu().numpy()
    return result
