"""Bases: IUPAC codes and windows."""
