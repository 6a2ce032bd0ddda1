"""The forecaster's life in a service: recent data, drift, fine-tuning in a process of its own, promotion, roll-back."""
