"""Learners that complete gene × tissue profiles: distance, tissue correlation, and the hybrid."""
