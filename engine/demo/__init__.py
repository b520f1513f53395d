"""The built-in demonstration: a generated catalogue, its base model, and how both are made."""
