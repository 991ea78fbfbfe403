"""Test set and cross-validation folds, stratified and by groups; subsampling to a long tail."""
