"""Pre-training of small PlantCaduceus models: sequence in, a checkpoint folder with its card out."""
