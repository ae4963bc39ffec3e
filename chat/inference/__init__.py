"""Generation: prompts in, token ids out; cache reuse, drafts, constraints, batches."""
