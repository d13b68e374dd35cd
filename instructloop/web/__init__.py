"""The labelling app: pages and a JSON API over the store; no SQL, no tensors, nothing from outside the machine."""
