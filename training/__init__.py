"""The recipe of the bundled weights: pictures and degradations, the loop, and the export to safetensors."""
