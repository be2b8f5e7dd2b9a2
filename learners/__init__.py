"""Learners: feature batches in, predictions out. They never see a store."""
