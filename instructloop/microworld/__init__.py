"""A closed world of known truth: a simulation of people, text and judgement for the whole loop; always says so."""
