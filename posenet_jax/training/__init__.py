"""Training of encoders and decoders: losses, steps, and the loop they share."""
