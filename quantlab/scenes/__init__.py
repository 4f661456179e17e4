"""What goes into a model: pictures, films, rooms made to order. Import the modules; nothing heavy loads here."""
