"""Enformer as a learner: trained from scratch or fine-tuned, on tracks or on gene expression."""
