"""Takes a trained model out of the home."""
