"""Early warning: how long until a series runs into its limit, and whether that is worth a warning.

`memory` keeps what a series was, in bounded space; `features` describes it; `trees` judges (shipped models);
`predictor` joins them; `episode` makes one warning of many judgements. All but the last two are compiled.
"""
