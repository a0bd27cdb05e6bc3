"""How good encoders, decoders and reconstructions are, beside controls."""
