"""Language models behind one small protocol: providers, budget, cache."""
