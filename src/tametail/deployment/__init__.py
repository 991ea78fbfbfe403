"""Models to use: a study's classifier, its ensemble of fold models, prevalence."""
