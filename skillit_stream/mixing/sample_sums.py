"""What each sample of a batch adds to the figures of its skill: nats, targets, right predictions."""

import torch
from torch.nn import functional

from skillit_stream.loader.batches import IGNORE_INDEX

# Scores that are widened to float32 at a time: 128 MiB of them.
WIDENED = 1 << 25


def sums_by_sample(
    logits: torch.Tensor, labels: torch.Tensor, *, accuracy: bool = False, widened: int = WIDENED
) -> torch.Tensor:
    """What each sample of a batch adds to its skill's sums.

    Args:
        logits: [batch, sequence, vocabulary], of any floating type.
        labels: int64 [batch, sequence], the token that each place should have predicted; -100 for none.
        accuracy: Whether to look for the most likely token; without it the last three rows are zeros.
        widened: Logits that are held in float32 at a time.

    Returns:
        float64 [5, batch]: nats, target tokens, targets predicted, samples with targets (1 or 0), samples all of
        whose targets were predicted (1 or 0).
    """
    flat, targets = logits.flatten(0, 1), labels.flatten()
    size = max(1, widened // flat.shape[1])
    nats, right = [], []
    for part, wanted in zip(flat.split(size), targets.split(size), strict=True):
        scores = part.float()
        nats.append(functional.cross_entropy(scores, wanted, ignore_index=IGNORE_INDEX, reduction='none'))
        if accuracy:
            right.append(scores.argmax(dim=-1) == wanted)
    counts = (labels != IGNORE_INDEX).sum(dim=1)
    sums = torch.zeros(5, len(labels), dtype=torch.float64, device=logits.device)
    sums[0] = torch.cat(nats).view_as(labels).double().sum(dim=1)
    sums[1] = counts
    if accuracy:
        sums[2] = torch.cat(right).view_as(labels).sum(dim=1)
        sums[3] = counts > 0
        sums[4] = (sums[2] == counts) & (counts > 0)
    return sums
