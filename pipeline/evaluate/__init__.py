"""How good a model is on the test pictures, from what ML Engine's batch prediction answered."""
