"""What conversion, distillation and fewer bits cost or gain in accuracy."""
