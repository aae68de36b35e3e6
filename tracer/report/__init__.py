"""`twtrace report`: what a trace says."""
