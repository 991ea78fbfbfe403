"""Search for a method's parameters: nested, so that what is chosen is never judged by what it was chosen on."""
