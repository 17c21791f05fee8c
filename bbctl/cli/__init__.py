"""The command line: parse words, call one function, render one record."""
