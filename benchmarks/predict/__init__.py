"""Trained runs applied to genes, sequences and variants that they may not have seen."""
