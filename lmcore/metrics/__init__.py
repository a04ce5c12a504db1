"""How good is it? Every metric here needs numpy only."""
