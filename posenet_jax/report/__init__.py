"""The report: one page of the paper's figures, tables and claims; `contents` lists its sections."""
