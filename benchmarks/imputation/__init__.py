"""Imputation of gene × tissue tables: masks, batches, intervals, metrics, completed tables."""
