"""Tunes a learner's parameters, fold by fold, on validation families that no test gene is in."""
