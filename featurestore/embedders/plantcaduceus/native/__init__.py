"""PlantCaduceus on the compiled kernels of :mod:`featurestore.embedders.native`."""
