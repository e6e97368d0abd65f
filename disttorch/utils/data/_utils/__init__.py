"""The machinery behind `DataLoader`."""
