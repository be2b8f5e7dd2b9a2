"""Kernels in C: small libraries, compiled on the user's machine when first needed.

Compiled there rather than at install, so that a wheel is the same everywhere, a pip install needs no
compiler, and the code uses the vector units the processor has; in C rather than numba, which is a
large dependency that pins numpy and compiles for longer in every process. Without a compiler
the plain Python form computes the same. ``MERISTEM_KERNELS`` = ``off`` forces that form, ``on``
makes the lack of kernels an error. ``src`` holds the kernels of the store; those of models stand
beside the models.
"""
