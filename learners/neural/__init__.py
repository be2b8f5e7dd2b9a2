"""Learners in torch, all trained by one loop (:mod:`learners.neural.training`)."""
