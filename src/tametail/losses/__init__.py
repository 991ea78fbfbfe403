"""Losses for imbalanced classes. They need torch alone. Shape legend: B batch, C classes.

>>> from tametail.losses import ALPALoss
>>> loss = ALPALoss()(logits, target)
"""

from __future__ import annotations

from tametail.losses.alpa import ALPALoss, alpa_loss
from tametail.losses.asymmetric import AsymmetricLoss, asymmetric_loss
from tametail.losses.asymmetric_polynomial import AsymmetricPolynomialLoss, apl_loss
from tametail.losses.asymmetric_single_label import AsymmetricSingleLabelLoss, asymmetric_single_label_loss
from tametail.losses.balanced_softmax import BalancedSoftmaxLoss, balanced_softmax_loss
from tametail.losses.base import CommonParameters, Loss, ReductionParameters
from tametail.losses.binary_cross_entropy import BinaryCrossEntropyLoss, binary_cross_entropy_loss
from tametail.losses.class_balanced import ClassBalancedLoss, class_balanced_loss, class_balanced_weights
from tametail.losses.corn import CORNLoss, corn_log_probabilities, corn_loss
from tametail.losses.cross_entropy import CrossEntropyLoss, cross_entropy_loss
from tametail.losses.description import LossDescription, describe_loss
from tametail.losses.focal import FocalLoss, focal_loss
from tametail.losses.focal_softmax import FocalSoftmaxLoss, focal_softmax_loss
from tametail.losses.gradients import Curve, gradient_curve
from tametail.losses.grammar import LossSpec, create_loss, parse_loss, split_losses
from tametail.losses.hill import HillLoss, hill_loss
from tametail.losses.label_aware_smoothing import (
    LabelAwareSmoothingLoss,
    label_aware_smoothing_loss,
    label_aware_smoothings,
)
from tametail.losses.lade import LADELoss, lade_loss, lade_regulariser
from tametail.losses.ldam import LDAMLoss, NormalisedLinear, ldam_loss, ldam_margins
from tametail.losses.links import Link
from tametail.losses.logit_adjusted import LogitAdjustedLoss, logit_adjusted_loss
from tametail.losses.one_pass import ClosedForm, OnePassLoss
from tametail.losses.ordinal import OrdinalLoss
from tametail.losses.pade import pade_coefficients
from tametail.losses.poly1 import Poly1Loss, poly1_loss
from tametail.losses.registry import describe_losses, failed_losses, list_losses, register_loss
from tametail.losses.robust_asymmetric import RobustAsymmetricLoss, ral_loss
from tametail.losses.soft_ordinal import SoftOrdinalLoss, soft_ordinal_labels, soft_ordinal_loss
from tametail.losses.softmax_equalization import SoftmaxEqualizationLoss, softmax_equalization_loss
from tametail.losses.vector_scaling import VectorScalingLoss, vector_scaling_loss
from tametail.losses.weighted_cross_entropy import (
    WeightedCrossEntropyLoss,
    inverse_frequency_weights,
    weighted_cross_entropy_loss,
)

__all__ = [
    "ALPALoss",
    "AsymmetricLoss",
    "AsymmetricPolynomialLoss",
    "AsymmetricSingleLabelLoss",
    "BalancedSoftmaxLoss",
    "BinaryCrossEntropyLoss",
    "CORNLoss",
    "ClassBalancedLoss",
    "ClosedForm",
    "CommonParameters",
    "CrossEntropyLoss",
    "Curve",
    "FocalLoss",
    "FocalSoftmaxLoss",
    "HillLoss",
    "LADELoss",
    "LDAMLoss",
    "LabelAwareSmoothingLoss",
    "Link",
    "LogitAdjustedLoss",
    "Loss",
    "LossDescription",
    "LossSpec",
    "NormalisedLinear",
    "OnePassLoss",
    "OrdinalLoss",
    "Poly1Loss",
    "ReductionParameters",
    "RobustAsymmetricLoss",
    "SoftOrdinalLoss",
    "SoftmaxEqualizationLoss",
    "VectorScalingLoss",
    "WeightedCrossEntropyLoss",
    "alpa_loss",
    "apl_loss",
    "asymmetric_loss",
    "asymmetric_single_label_loss",
    "balanced_softmax_loss",
    "binary_cross_entropy_loss",
    "class_balanced_loss",
    "class_balanced_weights",
    "corn_log_probabilities",
    "corn_loss",
    "create_loss",
    "cross_entropy_loss",
    "describe_loss",
    "describe_losses",
    "failed_losses",
    "focal_loss",
    "focal_softmax_loss",
    "gradient_curve",
    "hill_loss",
    "inverse_frequency_weights",
    "label_aware_smoothing_loss",
    "label_aware_smoothings",
    "lade_loss",
    "lade_regulariser",
    "ldam_loss",
    "ldam_margins",
    "list_losses",
    "logit_adjusted_loss",
    "pade_coefficients",
    "parse_loss",
    "poly1_loss",
    "ral_loss",
    "register_loss",
    "soft_ordinal_labels",
    "soft_ordinal_loss",
    "softmax_equalization_loss",
    "split_losses",
    "vector_scaling_loss",
    "weighted_cross_entropy_loss",
]
