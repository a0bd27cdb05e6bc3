"""The report's page: its sections, tables and plots."""
