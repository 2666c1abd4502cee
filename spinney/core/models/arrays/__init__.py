"""The codec `sklearn-arrays`: an estimator as a description in JSON and typed arrays, read without running code."""
