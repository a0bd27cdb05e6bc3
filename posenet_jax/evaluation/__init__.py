"""Measures of encoders, decoders and reconstructions, each beside its control."""
