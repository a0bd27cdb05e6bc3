"""What descriptors keep and what moves them: the report's claims as numbers."""
