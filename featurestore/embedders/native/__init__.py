"""Kernels of the models on the CPU, compiled and loaded by :mod:`featurestore.native`."""
