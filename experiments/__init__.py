"""One script for each thing a person does; each has --help."""
