"""Pure mathematics and nouns of the loop: arrays and numbers in, arrays and numbers out."""
