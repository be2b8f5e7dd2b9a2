"""What was read of the inputs, laid down in the work area, and the windows cut from it."""
