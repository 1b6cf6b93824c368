"""What runs beside the handlers and keeps them, or ends them."""
