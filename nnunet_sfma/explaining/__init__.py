"""What a trained network attends to, drawn for one case."""
