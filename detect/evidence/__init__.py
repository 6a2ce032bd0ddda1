"""How unusual a value is for its own series: streams of evidence, made comparable by rarity, and joined."""
