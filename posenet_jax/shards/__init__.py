"""Folders of shards, in which a killed run resumes and to which several processes write."""
