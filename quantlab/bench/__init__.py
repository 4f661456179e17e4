"""The tables that papers print, measured: methods by bits, on held-out rooms. It quantizes nothing itself."""
