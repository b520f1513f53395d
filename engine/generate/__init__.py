"""Answers prompts: a worker that holds the models, and its torch-free client."""
