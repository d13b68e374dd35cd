"""Language models and reward models as ordinary Hugging Face folders; the only place that imports transformers."""
