"""How much of the web is machine-written: prevalence over dumps, with statistics."""
