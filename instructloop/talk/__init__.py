"""Talking to models from the command line: chat, scores, and which model a name means; nothing is trained."""
