"""Saturation mutagenesis: every single-base change of a region, scored and held against measurements."""
