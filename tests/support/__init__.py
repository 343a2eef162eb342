"""What tests share: builders, fakes and questions to the system."""
