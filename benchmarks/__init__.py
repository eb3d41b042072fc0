"""Speed, as ratios of things compared in one run on one machine; nothing here is a test."""
