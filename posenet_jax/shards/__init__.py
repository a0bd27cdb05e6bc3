"""Folders of shards that a killed run resumes in and processes share."""
