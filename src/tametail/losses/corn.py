"""CORN (corn): ordinal regression by conditional probabilities of exceeding each grade."""

from __future__ import annotations

from typing import Literal, Unpack, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from tametail.losses.base import CommonParameters, functional
from tametail.losses.numerics import log_prior
from tametail.losses.ordinal import ClassOrder, OrdinalLoss
from tametail.losses.registry import register_loss
from tametail.losses.validation import check_choice

Decide = Literal["rank", "class"]


def corn_log_probabilities(z: Tensor) -> Tensor:
    """Log-probabilities (B, C) of the grades from conditional logits (B, C), the lowest grade first.

    With f_k = sigmoid(z_k), the probability of a grade above k among those of at least k, p_k = (1 - f_k) Π_{j<k} f_j. There
    is no grade above the last, so that its logit is not used.
    """
    above, last = F.logsigmoid(z), z.shape[1] - 1
    before = torch.cat([0 * above[:, :1], above[:, :last].cumsum(dim=1)], dim=1)
    at = torch.cat([F.logsigmoid(-z[:, :last]), 0 * before[:, last:]], dim=1)
    return before + at


@register_loss
class CORNLoss(OrdinalLoss):
    """CORN: ordinal regression by the conditional probabilities of exceeding each grade.

    The head's output for grade k is the logit of a grade above k, among images of at least k; that of the highest grade is
    not used. The loss is the sum of the binary cross-entropies of these C - 1 questions, each asked of the images that have
    reached it. That is -log p of the true grade, with p the product of the answers: the continuation-ratio model.

    Deviations: the paper divides the sum over a batch by the number of questions in it, here by that of images, so
    that an image's loss does not depend on the others. A soft label mixes the terms of its classes linearly.

    Use it where classes are grades, and an error of several grades is worse than one of a single grade.

    Args:
        decide: ``rank``, as in the paper: the number of grades that are exceeded with a probability above 1/2, which is the
            median of the distribution and has the lowest expected absolute error; or ``class``, the most probable grade.
        tau: as in :class:`Loss`: during training ``tau`` times the log odds of the training set's conditional frequencies are
            added to the logits, and the decision is by posterior / prior^tau.
        class_order: see :class:`OrdinalLoss`.
        class_counts, reduction, ignore_index: see :class:`Loss`.

    Reference:
        Shi, Cao, Raschka: Deep Neural Networks for Rank-Consistent Ordinal Regression Based On Conditional Probabilities,
        Pattern Analysis and Applications 26, 2023, Eqs. 6 to 9.
    """

    name = "corn"
    stackable = True
    formula = "-Σ_c y_c log p_c, p_c = (1 - f_c) Π_{j<c} f_j, f = sigmoid(z), classes in order"
    family = "softmax"

    def __init__(
        self,
        *,
        decide: Decide = "rank",
        class_order: ClassOrder = None,
        **common: Unpack[CommonParameters],
    ) -> None:
        super().__init__(class_order=class_order, **common)
        check_choice("decide", decide, get_args(Decide))
        self.decide: Decide = decide

    def terms(self, z: Tensor, y: Tensor) -> Tensor:
        return -y * self._log_posterior(z)

    def of_indices(self, z: Tensor, index: Tensor) -> Tensor:
        return -self._log_posterior(z).gather(1, index.unsqueeze(1)).squeeze(1)

    def adjusted(self, z: Tensor) -> Tensor:
        """Shifted so that, with τ = 1, logits of 0 give the class frequencies of the training set."""
        return z if self.tau == 0 else z + self.tau * self._conditional_log_odds(z)

    def posterior(self, z: Tensor) -> Tensor:
        return self._log_posterior(z).exp()

    def decision(self, input: Tensor) -> Tensor:
        """Logits (B, C): log p - τ log π, or minus the expected distance in grades under it, which decides for the median."""
        z = input.to(torch.promote_types(input.dtype, torch.float32))
        logits = self._log_posterior(self.adjusted(z))
        if self.tau:
            logits = logits - self.prior_shift(logits)
        if self.decide == "class":
            return logits
        grade = self.grades(z.shape[1], z)
        return -torch.softmax(logits, dim=1) @ (grade.unsqueeze(1) - grade).abs()

    def _log_posterior(self, z: Tensor) -> Tensor:
        """Log-probabilities (B, C), or (H, C, B), of the classes in the order of the columns."""
        return self.by_class(corn_log_probabilities(self.by_grade(z)))

    def _conditional_log_odds(self, like: Tensor) -> Tensor:
        """(C,) log odds of a higher grade among the training images of at least each grade; 0 for the highest."""
        prior = self.by_grade(log_prior(self.counts_for(like), torch.float64).exp().unsqueeze(0))
        reached = prior.flip(1).cumsum(dim=1).flip(1)
        odds = torch.cat([(reached[:, 1:] / prior[:, :-1]).log(), torch.zeros_like(prior[:, :1])], dim=1)
        return self.by_class(odds).squeeze(0).to(like)


corn_loss = functional("corn_loss", CORNLoss)
