"""One global stateful LSTM that forecasts every series."""
