"""What one pass over the eval samples of all skills says of each: loss, bits per byte, accuracy."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torchmetrics import Metric

from skillit_stream.formats.manifest import SplitInfo
from skillit_stream.loader.dataset import SkillStreamingDataset
from skillit_stream.mixing.sample_sums import sums_by_sample
from skillit_stream.mixing.seen_losses import Figures

LOSSES, BITS_PER_BYTE, ACCURACY, EXACT_MATCH = 'losses', 'bits_per_byte', 'accuracy', 'exact_match'
_LOGGED_AS = {
    LOSSES: 'LanguageCrossEntropy',
    BITS_PER_BYTE: 'BitsPerByte',
    ACCURACY: 'AnswerAccuracy',
    EXACT_MATCH: 'AnswerExactMatch',
}


class MeanSkillLoss(Metric):
    """The mean over skills of their losses; every skill's own figures are in :meth:`by_skill`.

    A skill's loss is its nats divided by its target tokens, over all samples and ranks: sums in float64 of
    the float32 loss of every token, so that the division into batches and ranks does not matter.

    Args:
        skills: Names; a batch's ``skill`` column numbers them.
        tokens_per_byte: Skill -> tokens that a byte of its text was encoded to (:func:`tokens_per_byte`), for
            its bits per byte; skills left out have none.
        accuracy: Whether to compare the most likely token with the target, for losses on answers.
    """

    needs_batch = True
    full_state_update = False
    sums: torch.Tensor

    def __init__(
        self,
        skills: Sequence[str],
        *,
        tokens_per_byte: Mapping[str, float] | None = None,
        accuracy: bool = False,
    ) -> None:
        super().__init__()
        self.skills = tuple(skills)
        self._tokens_per_byte = dict(tokens_per_byte or {})
        self._accuracy = accuracy
        self.add_state(
            'sums',
            torch.zeros(5, len(self.skills), dtype=torch.float64),
            dist_reduce_fx='sum',
            persistent=False,
        )
        self._totals = self.sums.clone()

    def update(self, batch: Mapping[str, Any], outputs: Any, labels: torch.Tensor) -> None:
        """Add a microbatch.

        Args:
            batch: With ``skill``, integers [batch].
            outputs: Logits [batch, sequence, vocabulary], or a mapping that holds them.
            labels: int64 [batch, sequence], already shifted; -100 where no token counts.
        """
        logits = outputs['logits'] if isinstance(outputs, Mapping) else outputs
        sums = sums_by_sample(logits, labels, accuracy=self._accuracy)
        self.sums.index_add_(1, batch['skill'].to(self.sums.device, torch.int64), sums)

    def compute(self) -> torch.Tensor:
        """The mean, each skill weighing the same, in nats per token; NaN if a skill has no target token."""
        # Here, and only here, the sums are those of all ranks.
        self._totals = self.sums.clone()
        return (self._totals[0] / self._totals[1]).mean()

    def by_skill(self) -> Figures:
        """The figures of every skill at the last :meth:`compute`.

        Returns:
            ``losses``, nats per target token. ``bits_per_byte``, if the tokens per byte of any skill are known.
            ``accuracy``, the share of target tokens that the model finds most likely, and ``exact_match``, the
            share of samples in which it does so for all of them, where they are asked for. The first token of
            a sample has nothing before it and is no target.
        """
        nats, tokens, right, samples, whole = self._totals.cpu()
        figures = {LOSSES: self._named(nats / tokens)}
        if self._tokens_per_byte:
            figures[BITS_PER_BYTE] = {
                skill: figures[LOSSES][skill] * rate / math.log(2)
                for skill, rate in self._tokens_per_byte.items()
                if skill in self.skills
            }
        if self._accuracy:
            figures |= {ACCURACY: self._named(right / tokens), EXACT_MATCH: self._named(whole / samples)}
        return figures

    def _named(self, values: torch.Tensor) -> dict[str, float]:
        return dict(zip(self.skills, values.tolist(), strict=True))


def mixture_metrics(dataset: SkillStreamingDataset) -> dict[str, float]:
    """Metrics of the coming round: ``mixture/round``, and of each skill its proportion, samples and passes so far."""
    upcoming, seen, passes = dataset.next_proportions, dataset.samples_seen, dataset.passes
    metrics: dict[str, float] = {'mixture/round': dataset.next_round}
    for skill in dataset.skills:
        metrics[f'mixture/{skill}/proportion'] = upcoming[skill]
        metrics[f'mixture/{skill}/samples'] = seen[skill]
        metrics[f'mixture/{skill}/passes'] = passes[skill]
    return metrics


def as_logged(figures: Figures) -> dict[str, float]:
    """Figures as metrics of Composer's loggers, ``metrics/<skill>/...``, the loss by Composer's name for it."""
    return {
        f'metrics/{skill}/{_LOGGED_AS[name]}': value
        for name, values in figures.items()
        for skill, value in values.items()
    }


def tokens_per_byte(splits: Mapping[str, SplitInfo]) -> dict[str, float]:
    """Tokens that a byte of each skill's text was encoded to, of the skills whose manifest counts them.

    With it a loss in nats per token is one in bits per byte, which compares across tokenizers (Gao et al. 2020,
    arXiv 2101.00027, section 3.1): loss * tokens / (bytes * ln 2). Both counts are of the whole text of the
    split's documents in UTF-8, what filled no sample and what is outside a subset included; an EOS a document
    is among the tokens, as it is among the targets, and has no bytes.

    Args:
        splits: Skill -> its eval split.

    Returns:
        Skill -> tokens per byte; without the skills whose loss is on answers alone, or without text.
    """
    return {
        skill: info.text_tokens / info.bytes
        for skill, info in splits.items()
        if info.text_tokens and info.bytes
    }
