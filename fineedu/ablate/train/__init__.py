"""Small language models trained on what each cell keeps, all alike but for their corpus."""
