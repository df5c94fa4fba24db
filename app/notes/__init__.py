"""Notes: what people write down about accounts."""
