"""The microworld's simulated labelers as visitors of the app: they sign up and work through HTTP; no torch."""
