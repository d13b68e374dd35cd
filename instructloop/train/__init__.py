"""The one training loop, the streams it is fed from, and the checkpoints it resumes from; no task of its own."""
