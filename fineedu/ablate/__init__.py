"""The threshold lab: many filter settings compared over the same signals, and over small models trained on each."""
