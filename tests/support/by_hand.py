"""What evaluation has to find, by a plain loop over samples."""

import math
from typing import Any

import numpy as np
import torch
from composer.models import HuggingFaceModel
from torch.nn.functional import cross_entropy


def by_hand(model: HuggingFaceModel, samples: list[dict[str, Any]]) -> dict[str, float]:
    """The figures of a skill, one sample after the other, summed exactly."""
    nats, right = [], []
    for sample in samples:
        tokens = torch.from_numpy(np.asarray(sample['tokens']).astype(np.int64))
        wanted = torch.from_numpy(np.asarray(sample.get('loss_mask', np.ones(len(tokens)))) != 0)[1:]
        with torch.no_grad():
            logits = model.model.eval()(input_ids=tokens[None]).logits[0, :-1]
        losses = cross_entropy(logits.float(), tokens[1:], reduction='none')[wanted]
        nats.append(losses.tolist())
        right.append((logits.argmax(dim=-1) == tokens[1:])[wanted].tolist())
    targets = sum(map(len, nats))
    whole = [all(one) for one in right if one]
    return {
        'losses': math.fsum(math.fsum(one) for one in nats) / targets,
        'accuracy': sum(map(sum, right)) / targets,
        'exact_match': sum(whole) / len(whole),
    }


def mean_loss(model: HuggingFaceModel, samples: list[dict[str, Any]]) -> float:
    """Nats per target token."""
    return by_hand(model, samples)['losses']
