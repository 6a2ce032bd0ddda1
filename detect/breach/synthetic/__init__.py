"""Made-up resource series, with the truth about them: what the early-warning models learn from."""
