"""What models cost: parameters and multiply-adds."""
