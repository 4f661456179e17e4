"""What app and widgets both show and ask: names, edits, numbers, clouds; pure functions, no toolkit, torch or lab."""
