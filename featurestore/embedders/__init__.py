"""Embedders: base codes in, named arrays out."""
