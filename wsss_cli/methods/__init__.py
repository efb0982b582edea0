"""The papers: one file an idea, pure functions on tensors, no files, no options."""
