"""The paper's pipeline in order: each stage reads its parents' run folders and writes its own."""
