"""Scores of variants by tracks against what was measured: classification and correlation."""
