"""The insight page: what gold says of cost, reliability and safety, for readers."""
