"""Trained models for prediction: a study's classifier, its ensemble of fold models, prevalence."""
