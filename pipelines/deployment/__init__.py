"""What the command line does with an exported model: bundle, service, prediction."""
